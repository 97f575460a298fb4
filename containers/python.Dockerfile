# The environment of the starter tasks as an image: Python 3.11, git and the pinned test runner.
#
#   docker build -t gym-code/python:3.11 -f containers/python.Dockerfile containers
#
# The pins are those of `gym.environment` in the task.yaml files of tasks/starter; tests/test_starter.py holds them equal.
FROM python:3.11-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*

RUN pip install --no-cache-dir --no-deps \
    iniconfig==2.3.1 \
    packaging==26.3 \
    pluggy==1.7.0 \
    pygments==2.21.0 \
    pytest==9.2.0

# Tasks run as an ordinary user. No byte code: leftovers of a run would be part of the next one's tree.
ENV PYTHONDONTWRITEBYTECODE=1
RUN useradd --create-home --uid 1000 agent \
    && install --directory --owner=agent --group=agent /testbed
USER agent
WORKDIR /testbed
