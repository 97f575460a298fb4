# What all environments on one base share: git, the user `agent`, compiled byte code and an empty /opt/env.
# Built by gym_code/sandbox/images.py and named gym-code/prepared:<hash of this recipe and the base>.
ARG BASE
FROM ${BASE}
USER root
RUN if ! command -v git >/dev/null || ! command -v bash >/dev/null; then \
      apt-get update \
      && apt-get install --yes --no-install-recommends bash ca-certificates git \
      && rm -rf /var/lib/apt/lists/*; \
    fi
# Boxes run as uid 1000 over a read-only root; /home/agent, /tmp and /testbed are where their own files go.
RUN getent passwd 1000 >/dev/null || useradd --no-create-home --home-dir /home/agent --uid 1000 --shell /bin/bash agent; \
    install --directory --owner=1000 --group=1000 /home/agent /testbed
COPY etc/gitconfig /etc/gitconfig
# Nothing can be compiled later: the official Python images come without byte code.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash -x '/(test|tests|lib2to3|idlelib|turtledemo)/' \
      "$(python3 -c 'import os; print(os.path.dirname(os.__file__))')" \
    && python3 -m venv --without-pip /opt/env
ENV PATH=/opt/env/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1
USER 1000:1000
WORKDIR /testbed
