# mqtt-bridge on Debian 13: docs/CONTAINERS.md.

FROM debian:trixie-slim AS builder
WORKDIR /src
COPY tools/deps.sh tools/
RUN tools/deps.sh build
COPY . .
RUN make -j"$(nproc)" PREFIX=/usr \
 && make install DESTDIR=/out PREFIX=/usr \
 && strip /out/usr/bin/mqtt-bridge*

FROM debian:trixie-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates libcjson1 libcurl4t64 \
        libhiredis1.1.0 libjs-dygraphs libmicrohttpd12t64 libpaho-mqtt1.3 libpq5 libssl3t64 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 9080 --no-create-home --home-dir /var/lib/mqtt-bridge --shell /usr/sbin/nologin mqtt-bridge \
 && install -d -o mqtt-bridge -g root -m 770 /var/lib/mqtt-bridge
COPY --from=builder /out /
RUN chmod 644 /etc/mqtt-bridge/mqtt-bridge.ini

# State and control socket are on the volume, the only place that is written to: the image runs with --read-only,
# and under any user id that is in the group root (docker run --user, OpenShift).
ENV container=oci XDG_STATE_HOME=/var/lib HTTP_LISTEN=0.0.0.0:9080
USER 9080:9080
WORKDIR /var/lib/mqtt-bridge
VOLUME /var/lib/mqtt-bridge
EXPOSE 9080
STOPSIGNAL SIGTERM
# Not --quiet: what is missing is kept in the container's state, where `docker inspect` shows it.
HEALTHCHECK --interval=5s --timeout=5s --start-period=20s --retries=3 CMD ["mqtt-bridge", "health"]
ENTRYPOINT ["mqtt-bridge-supervisor"]
