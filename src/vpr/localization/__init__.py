"""Where was this photo taken? An index of described photos, and a calibrated confidence."""
