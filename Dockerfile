# The pipeline and the server. This image has not been built by us.
#   docker build -t vpr . && docker run -p 5001:5001 -v "$PWD/data:/vpr/data" vpr serve --host 0.0.0.0
FROM python:3.11-slim
RUN apt-get update && apt-get install --yes --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /vpr
RUN useradd --create-home vpr && chown vpr /vpr
USER vpr
COPY --chown=vpr . .
RUN make setup PYTHON=python
ENV PATH=/vpr/.venv/bin:$PATH
ENTRYPOINT ["vpr"]
CMD ["--help"]
