# One environment: pinned packages in /opt/env, over what all environments on the base share (prepared.Dockerfile).
# Built by gym_code/sandbox/images.py and named gym-code/env:<hash of recipe, base and packages>.
ARG PREPARED
FROM ${PREPARED} AS packages
LABEL gym-code.kind=stage
USER root
# pip's index and certificates, as the host has them: they stay behind in this stage.
COPY pip /pip
RUN python3 -m venv --clear /opt/env \
    && /opt/env/bin/python -m pip uninstall --quiet --yes setuptools \
    && PIP_CONFIG_FILE=/pip/pip.conf /opt/env/bin/python -m pip install \
      --no-compile --no-cache-dir --no-input --disable-pip-version-check --no-warn-script-location \
      --requirement /pip/requirements.txt \
    && /opt/env/bin/python -m pip uninstall --quiet --yes pip \
    && /opt/env/bin/python -m compileall -q --invalidation-mode unchecked-hash -x '/(bad|templates?)/' /opt/env/lib

FROM ${PREPARED}
COPY --from=packages /opt/env /opt/env
