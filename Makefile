# Supported targets are those that `make help` lists.
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' ipvsd/__init__.py)
SOURCE_DATE_EPOCH ?= $(shell git log -1 --pretty=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH

DEB := dist/ipvsd_$(VERSION)_all.deb
STAGE := build/deb/ipvsd-$(VERSION)
SYSTEM_PATH := /usr/sbin:/usr/bin:/sbin:/bin

deb: $(DEB)  ## build dist/ipvsd_VERSION_all.deb

# Built in a copy, so that debhelper leaves nothing in the tree; with the
# distribution's own python3, whatever else comes first on the PATH.
$(DEB): $(shell find ipvsd systemd packaging docs -type f -not -path '*/__pycache__/*') README.md pyproject.toml Makefile
	rm -rf build/deb && mkdir -p $(STAGE) dist
	git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C $(STAGE)
	mv $(STAGE)/packaging/debian $(STAGE)/debian
	cd $(STAGE) && PATH=$(SYSTEM_PATH) DEB_BUILD_OPTIONS=nocheck dpkg-buildpackage -us -uc -b > ../build.log 2>&1 \
	    || { tail -n 40 ../build.log; exit 1; }
	cp build/deb/*.deb dist/
