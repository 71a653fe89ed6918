"""Score predictions: recalls, recall by condition, and recall over drives."""
