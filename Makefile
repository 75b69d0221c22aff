# mqtt-bridge: one Makefile, everything built under build/. `make help` lists the targets.

PREFIX     ?= /usr/local
DESTDIR    ?=
SANITIZE   ?=
PKG_CONFIG ?= pkg-config
# Make's own default for CC is cc, which ?= does not replace.
ifeq ($(origin CC),default)
CC := gcc
endif
VERSION    := 0.1.0

# `make` shows each step as one line ("  CC common/base/bytes.c"), `make V=1` as its command, `make -s` not at all.
V      ?=
quiet  = $(if $(V),,@)
silent = --no-print-directory $(if $(V),,-s)
step   = $(if $(V)$(findstring s,$(firstword -$(MAKEFLAGS))),,@echo '  $(1) $(2)')

# A sanitizer's objects are not the others': each kind has a folder of its own.
comma := ,
BUILD := build$(if $(SANITIZE),/sanitize-$(subst $(comma),-,$(SANITIZE)))

PROGRAMS := supervisor consumer worker monitor
BINARIES := $(PROGRAMS:%=$(BUILD)/mqtt-bridge-%) $(BUILD)/mqtt-bridge

WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
            -Wformat=2 -Wno-format-truncation -Wvla $(if $(CI),-Werror)
CFLAGS   ?= -O2 -g
HARDEN   := -fstack-protector-strong -fPIE
FORTIFY  := -D_FORTIFY_SOURCE=2
ifneq ($(SANITIZE),)
FORTIFY  :=
SANFLAGS := -fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=undefined
endif
ALL_CPPFLAGS = -D_GNU_SOURCE -DMQTT_BRIDGE_VERSION='"$(VERSION)"' -I. $(FORTIFY) $(CPPFLAGS)
ALL_CFLAGS   = -std=gnu11 $(CFLAGS) $(WARNINGS) $(HARDEN) $(SANFLAGS)
ALL_LDFLAGS  = -pie -Wl,-z,relro,-z,now -Wl,--as-needed $(SANFLAGS) $(LDFLAGS)

# pkg-config where the library has it; paho has none on Debian.
lib       = $(shell $(PKG_CONFIG) --libs $(1) 2>/dev/null || echo $(2))
CJSON    := $(call lib,libcjson,-lcjson)
HIREDIS  := $(call lib,hiredis,-lhiredis)
LIBPQ    := $(call lib,libpq,-lpq)
CURL     := $(call lib,libcurl,-lcurl)
CRYPTO   := $(call lib,libcrypto,-lcrypto)
MICROHTTPD := $(call lib,libmicrohttpd,-lmicrohttpd)
PAHO     := -lpaho-mqtt3as
PAHO_BLOCKING := -lpaho-mqtt3cs
CMOCKA   := $(call lib,cmocka,-lcmocka)
CLIENT_LIBS := $(HIREDIS) $(LIBPQ) $(CURL) -lssl $(CRYPTO) -lpthread

LIBS_supervisor := $(CJSON)
LIBS_consumer   := $(PAHO) $(HIREDIS) -lssl $(CRYPTO) -lpthread
LIBS_worker     := $(CLIENT_LIBS)
LIBS_monitor    := $(CJSON) $(MICROHTTPD) $(CLIENT_LIBS)
LIBS_cli        := $(CJSON) $(PAHO_BLOCKING) $(CLIENT_LIBS)
LIBS_all        := $(CJSON) $(PAHO) $(PAHO_BLOCKING) $(MICROHTTPD) $(CLIENT_LIBS) -lm

SOURCES := $(wildcard common/*/*.c \
                      supervisor/*.c consumer/*.c consumer/*/*.c worker/*.c monitor/*.c cli/*.c)
HEADERS := $(wildcard common/*/*.h supervisor/*.h consumer/*.h consumer/*/*.h worker/*.h monitor/*.h cli/*.h)
objects  = $(patsubst %.c,$(BUILD)/%.o,$(wildcard $(1)))
# A program's modules without its main, for the tests.
modules  = $(filter-out $(BUILD)/$(1)/main.o,$(call objects,$(1)/*.c) $(call objects,$(1)/*/*.c))

COMMON := $(BUILD)/libcommon.a

# "test_lane.c=worker": the program whose modules a unit test uses, by the #include lines of it and of the headers
# beside it. A test of common/ uses none, and builds and links none.
UNIT_USES := $(shell cd tests/unit && awk -F'"' '/^.include "/ { last = split($$2, part, "/"); \
    used = last == 1 || part[1] == "tests" ? by[part[last]] : part[1]; \
    if (used != "" && used != "common") by[FILENAME] = used } \
    END { for (file in by) print file "=" by[file] }' *.h test_*.c)

EXAMPLES := $(wildcard examples/*/*)

UNIT_TESTS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/test_*.c))
FUZZERS    := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
BENCHES    := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/bench/*.c))

# What the command writes about itself, for `make install`.
PAGES := $(addprefix $(BUILD)/,mqtt-bridge.1 mqtt-bridge.ini.5 mqtt-bridge.bash)

.PHONY: all
all: $(BINARIES) $(PAGES) ## build the programs

.PHONY: objects
objects: $(SOURCES:%.c=$(BUILD)/%.o)

# What the objects are made with; another folder holds those of each SANITIZE. A change makes them anew.
$(BUILD)/flags: export BUILD_FLAGS = $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(ALL_LDFLAGS)
$(BUILD)/flags: force
	@mkdir -p $(@D)
	@echo "$$BUILD_FLAGS" | cmp -s - $@ || echo "$$BUILD_FLAGS" >$@
.PHONY: force

$(BUILD)/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call step,CC,$<)
	$(quiet)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(COMMON): $(call objects,common/*/*.c)
$(foreach program,$(PROGRAMS) cli,$(eval $(BUILD)/lib$(program).a: $(call modules,$(program))))
$(BUILD)/%.a:
	@rm -f $@
	$(call step,AR,$@)
	$(quiet)ar rcs $@ $^

$(BUILD)/mqtt-bridge-%: $(BUILD)/%/main.o $(BUILD)/lib%.a $(COMMON)
	$(call step,LD,$@)
	$(quiet)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS_$*) -lm
$(BUILD)/mqtt-bridge: $(BUILD)/cli/main.o $(BUILD)/libcli.a $(COMMON)
	$(call step,LD,$@)
	$(quiet)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS_cli) -lm

$(BUILD)/mqtt-bridge.1: page = help --man
$(BUILD)/mqtt-bridge.ini.5: page = config --man
$(BUILD)/mqtt-bridge.bash: page = help --completion
$(PAGES): $(BUILD)/mqtt-bridge
	$(call step,DOC,$@)
	$(quiet)$(BUILD)/mqtt-bridge $(page) >$@

$(foreach use,$(filter test_%,$(UNIT_USES)),$(eval \
    $(BUILD)/tests/unit/$(subst .c=,: $(BUILD)/lib,$(use)).a))
$(UNIT_TESTS): $(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(COMMON)
	$(call step,LD,$@)
	$(quiet)$(CC) $(ALL_LDFLAGS) -o $@ $< $(filter-out $(COMMON),$(filter %.a,$^)) $(COMMON) $(CMOCKA) $(LIBS_all)
$(BENCHES): $(BUILD)/tests/bench/%: $(BUILD)/tests/bench/%.o $(BUILD)/libconsumer.a $(COMMON)
	$(call step,LD,$@)
	$(quiet)$(CC) $(ALL_LDFLAGS) -o $@ $^ $(LIBS_all)

.PHONY: unit
unit: $(UNIT_TESTS) ## build and run the unit tests
	@tools/run-unit-tests $(UNIT_TESTS)

.PHONY: deps
deps: ## install what is missing for everything (Debian 12 or 13, root or sudo)
	@tools/deps.sh

.PHONY: demo
demo: ## the whole bridge with real servers on loopback, and a live page
	@tools/deps.sh hub
	@tools/hub-binary >/dev/null & \
	    tools/deps.sh demo && echo 'build: the programs, into $(BUILD)/' && $(MAKE) $(silent) -j$$(nproc) all && wait $$!
	@tools/demo.sh

.PHONY: test
test: ## every test
	@tools/deps.sh test
	@echo 'build: the programs and their unit tests, into $(BUILD)/'
	@$(MAKE) $(silent) -j$$(nproc) all $(UNIT_TESTS)
	@$(MAKE) $(silent) unit
	@tools/run-integration-tests

.PHONY: sanitize
sanitize: ## the same tests under the address, undefined-behaviour and thread sanitizers
	@tools/deps.sh test
	@tools/run-sanitized-tests

.PHONY: test-compose
test-compose: ## the container image and the stack
	@tools/deps.sh compose
	@tests/compose/run

.PHONY: test-compat
test-compat: ## with other versions of Symfony, Redis and Valkey, in folders that it makes (root)
	@tools/deps.sh compat
	@$(MAKE) $(silent) -j$$(nproc) all $(UNIT_TESTS)
	@tests/compat/run

.PHONY: soak
soak: ## ten minutes of seeded faults around the consumer, and ten around all programs (SOAK_SECONDS)
	@tools/deps.sh test
	@$(MAKE) --no-print-directory -j$$(nproc) all
	@tests/soak/run
	@tests/soak/chaos

.PHONY: bench
bench: ## speed as ratios against other programs on the same work
	@tools/deps.sh test
	@$(MAKE) --no-print-directory all $(BENCHES)
	@tests/bench/run

.PHONY: bench-fanout
bench-fanout: ## what reaches a thousand pages at once, by the way of publishing
	@tools/deps.sh test
	@$(MAKE) --no-print-directory all $(BENCHES)
	@tests/bench/fanout

.PHONY: lint
lint: ## format, includes, static analysis, shell scripts
	@tools/lint.sh

.PHONY: format
format: ## apply .clang-format
	@clang-format -i $(SOURCES) $(HEADERS) $(wildcard tests/unit/*.[ch] tests/fuzz/*.c tests/bench/*.c tests/integration/helpers/*.c)

.PHONY: fuzz
fuzz: ## build the fuzzers with clang and run each for a minute
	@tools/fuzz.sh

.PHONY: generate
generate: $(BUILD)/mqtt-bridge ## write etc/mqtt-bridge.ini and the tables of docs/SETTINGS.md from the settings table
	$(BUILD)/mqtt-bridge config --template > etc/mqtt-bridge.ini
	sed -i '/^## \[/,$$d' docs/SETTINGS.md
	$(BUILD)/mqtt-bridge config --reference >> docs/SETTINGS.md

.PHONY: install
install: all ## install under DESTDIR and PREFIX; settings that are there stay as they are
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/mqtt-bridge/web $(DESTDIR)/etc/mqtt-bridge \
	    $(addprefix $(DESTDIR)$(PREFIX)/share/mqtt-bridge/,$(sort $(dir $(EXAMPLES))))
	install -m 755 $(BINARIES) $(DESTDIR)$(PREFIX)/bin
	install -m 644 web/* $(DESTDIR)$(PREFIX)/share/mqtt-bridge/web
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 $(BUILD)/mqtt-bridge.1
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man5 $(BUILD)/mqtt-bridge.ini.5
	install -D -m 644 $(BUILD)/mqtt-bridge.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/mqtt-bridge
	install -m 644 etc/mqtt-bridge.ini $(DESTDIR)$(PREFIX)/share/mqtt-bridge/mqtt-bridge.ini
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/mqtt-bridge/prometheus etc/prometheus/mqtt-bridge.rules.yml
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/mqtt-bridge/grafana etc/grafana/mqtt-bridge.json
	$(foreach file,$(EXAMPLES),install -m 755 $(file) $(DESTDIR)$(PREFIX)/share/mqtt-bridge/$(file) &&) true
	test -e $(DESTDIR)/etc/mqtt-bridge/mqtt-bridge.ini || \
	    install -m 640 etc/mqtt-bridge.ini $(DESTDIR)/etc/mqtt-bridge/mqtt-bridge.ini

.PHONY: uninstall
uninstall: ## remove what install put there, but for the settings
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(notdir $(BINARIES)))
	rm -rf $(DESTDIR)$(PREFIX)/share/mqtt-bridge
	rm -f $(DESTDIR)$(PREFIX)/share/man/man1/mqtt-bridge.1 $(DESTDIR)$(PREFIX)/share/man/man5/mqtt-bridge.ini.5 \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions/mqtt-bridge

.PHONY: clean
clean: ## remove build/
	rm -rf build

.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):[^#]*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
	    while IFS='|' read -r name what; do printf '  make %-14s %s\n' "$$name" "$$what"; done

print-%:
	@echo '$($*)'

-include $(SOURCES:%.c=$(BUILD)/%.d) $(wildcard $(BUILD)/tests/*/*.d)
.SECONDARY:
.DELETE_ON_ERROR:
