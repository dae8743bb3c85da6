# The lab, and the command line for CI, as a user without privileges:
#
#   docker build --tag chaoslab .
#   docker run --rm --init --publish 127.0.0.1:8888:8888 chaoslab                  JupyterLab; its log has the address with the token
#   docker run --rm --init --volume "$PWD:/work" --workdir /work chaoslab chaoslab ci --target http://shop:8080
#
# Faults of the network want more: --user root --cap-add NET_ADMIN. BASE is any image of Debian or Ubuntu with Python 3.11
# or newer, its module venv, and pip's certificates.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS system
# hadolint ignore=DL3008 # the base decides which versions there are
RUN apt-get update \
    && apt-get install --yes --no-install-recommends iproute2 iptables make nftables openssh-client stress-ng \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 --shell /bin/bash chaos

# Everything that the lock file names is fetched with its hash checked; of that, what the lab needs is installed.
FROM system AS build
WORKDIR /src
COPY requirements.lock ./
RUN python3 -m venv /opt/chaoslab \
    && /opt/chaoslab/bin/pip download --quiet --require-hashes --requirement requirements.lock --dest /wheels
COPY pyproject.toml README.md LICENSE ./
COPY chaoslab chaoslab
COPY notebooks notebooks
COPY data data
RUN /opt/chaoslab/bin/pip install --quiet --no-index --find-links /wheels '.[dns,docker,lab,otel]'

FROM system
COPY --from=build /opt/chaoslab /opt/chaoslab
COPY --chown=chaos:chaos notebooks /lab/notebooks
COPY --chown=chaos:chaos data /lab/data
ENV PATH=/opt/chaoslab/bin:$PATH
USER 1000:1000
WORKDIR /lab/notebooks
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--port=8888", "--no-browser"]
