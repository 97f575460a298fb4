# The guest runtime (gym_code/sandbox/runtime.py): an interpreter with its libraries, the supervisor and the keeper,
# in an image that holds nothing else. Its /gym-code fills the volume that every box mounts.
# Built by gym_code/sandbox/images.py and named gym-code/guest:<hash of recipe, base and sources>.
ARG BASE
FROM ${BASE} AS collect
LABEL gym-code.kind=stage
USER root
COPY gym_code /src/gym_code
RUN python3 -I -S -B /src/gym_code/sandbox/runtime.py /gym-code /src

FROM scratch
COPY --from=collect /gym-code /gym-code
CMD ["/gym-code/lib/ld.so", "--library-path", "/gym-code/lib", "/gym-code/bin/python3", "-I", "-S", "-B"]
