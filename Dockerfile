# One image for every service; the command says which: python -m tidemill.services.<name>
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
COPY requirements.lock /build/
RUN python3 -m venv /opt/tidemill \
 && /opt/tidemill/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-input --require-hashes -r /build/requirements.lock

FROM ${BASE_IMAGE}
# LightGBM's OpenMP runtime.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin tidemill \
 && install --directory --owner tidemill /data /application
COPY --from=build /opt/tidemill /opt/tidemill
WORKDIR /opt/tidemill/app
COPY pyproject.toml README.md ./
COPY schemas schemas
COPY shared shared
COPY deploy deploy
COPY services services
COPY examples examples
COPY tidemill tidemill
RUN /opt/tidemill/bin/python -m pip install --no-cache-dir --disable-pip-version-check --no-input --no-deps --no-build-isolation -e .

USER tidemill
WORKDIR /data
VOLUME /data
ENV PATH=/opt/tidemill/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/data/numba \
    TIDEMILL_APPLICATION=/application \
    TIDEMILL_LAKE__URI=/data/lake \
    TIDEMILL_ARTIFACTS__URI=/data/artifacts \
    TIDEMILL_TRACKING__URI=sqlite:////data/mlflow.db \
    TIDEMILL_RUNNER__STATE_FOLDER=/data/state \
    TIDEMILL_COMMANDS__KEY_FILE=/data/commands-key \
    TIDEMILL_HEALTH__HOST=0.0.0.0 \
    TIDEMILL_HEALTH__PORT=8090
EXPOSE 8090
# Live: the loop advances. Ready (state restored) is /ready; a service that restores for long is live but not ready.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['TIDEMILL_HEALTH__PORT'] + '/live', timeout=4)"]
CMD ["tidemill", "--help"]
