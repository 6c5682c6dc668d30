#!/bin/sh
# Prepares the checkout once: virtual environment, dependencies, Java, Delta's JARs, and the archive that starts Java sooner.
# Does nothing, and asks no network, when all of it is there already. `make setup` runs it.
set -eu
cd "$(dirname "$0")/.."
umask 022

venv=.venv
python=$venv/bin/python
log=$venv/setup.log
beat=

say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
trap '[ -z "$beat" ] || kill "$beat" 2>/dev/null || :' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

digest() { if command -v sha256sum >/dev/null 2>&1; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }

# Runs a command quietly, with a sign of life every 20 seconds; its last lines are shown when it fails.
patiently() {
    say "$1"; shift
    (seconds=0; while sleep 20 >/dev/null 2>&1; do seconds=$((seconds + 20)); say "  ... $seconds s"; done) &
    beat=$!
    status=0
    "$@" >>"$log" 2>&1 || status=$?
    kill "$beat" 2>/dev/null || :
    wait "$beat" 2>/dev/null || :
    beat=
    [ "$status" -eq 0 ] || { tail -n 25 "$log" >&2; return "$status"; }
}

# ---- Python -----------------------------------------------------------------------------------------------------------

python_fits() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-} python3 python3.12 python3.13 python3.11 python; do
        if command -v "$candidate" >/dev/null 2>&1 && python_fits "$candidate"; then echo "$candidate"; return; fi
    done
    die "no Python 3.11, 3.12 or 3.13 with its venv module. Install one ($(python_line)), or name it: make setup PYTHON=/path/to/python"
}

python_line() {
    case $(package_manager) in
        apt-get) echo "sudo apt-get install -y python3 python3-venv" ;;
        dnf) echo "sudo dnf install -y python3.12" ;;
        brew) echo "brew install python@3.12" ;;
        apk) echo "sudo apk add python3" ;;
        *) echo "from your system's packages" ;;
    esac
}

environment() {
    if [ ! -x "$python" ] || ! python_fits "$python"; then
        found=$(find_python)
        say "virtual environment in $venv, from $("$found" --version 2>&1)"
        "$found" -m venv --clear "$venv"
    elif [ -f "$venv/stamp-path" ] && [ "$(cat "$venv/stamp-path")" != "$PWD" ]; then
        say "the checkout has moved: building $venv again"
        "$(find_python)" -m venv --clear "$venv"
    fi
    printf '%s\n' "$PWD" >"$venv/stamp-path"
}

# ---- packages ---------------------------------------------------------------------------------------------------------

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

packages() {
    wanted=$(digest requirements.txt)
    if [ "$(cat "$venv/stamp-requirements" 2>/dev/null)" != "$wanted" ]; then
        # Spark comes as source: packing its 450 MB tightly, only to unpack them again, would take half a minute.
        printf '[bdist_wheel]\ncompression = stored\n' >"$venv/build.cfg"
        # Python compiles what is used when it is first used; compiling all of it takes another half.
        DIST_EXTRA_CONFIG="$PWD/$venv/build.cfg" patiently "packages from requirements.txt, hashes checked (a few minutes)" \
            "$python" -m pip install --no-compile --require-hashes -r requirements.txt ||
            die "pip could not install requirements.txt; all of its output is in $log"
        printf '%s\n' "$wanted" >"$venv/stamp-requirements"
    fi
    wanted=$(digest pyproject.toml)
    if [ "$(cat "$venv/stamp-project" 2>/dev/null)" != "$wanted" ] || [ ! -x "$venv/bin/tailrace" ]; then
        # setuptools is among the pinned packages, so this needs no network.
        patiently "the command tailrace, from this checkout" \
            "$python" -m pip install --no-deps --no-build-isolation -e . ||
            die "pip could not install this checkout; all of its output is in $log"
        printf '%s\n' "$wanted" >"$venv/stamp-project"
    fi
}

# ---- Java -------------------------------------------------------------------------------------------------------------

# Spark 4 runs on 17 and 21, and only with the module for vectors, which trimmed runtimes lack.
java_fits() {
    [ -x "$1/bin/java" ] || return 1
    case $("$1/bin/java" -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java\.specification\.version = //p') in
        17 | 21) ;;
        *) return 1 ;;
    esac
    "$1/bin/java" --list-modules 2>/dev/null | grep '^jdk\.incubator\.vector' >/dev/null
}

java_homes() {
    printf '%s\n' "${JAVA_HOME:-}"
    java -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java\.home = //p'
    for folder in /usr/lib/jvm/* /usr/lib64/jvm/* /usr/java/* /opt/java/* /opt/jdk* \
        /opt/homebrew/opt/openjdk@*/libexec/openjdk.jdk/Contents/Home /usr/local/opt/openjdk@*/libexec/openjdk.jdk/Contents/Home \
        /Library/Java/JavaVirtualMachines/*/Contents/Home "${HOME:-}"/.sdkman/candidates/java/* "${HOME:-}"/.jdks/*; do
        printf '%s\n' "$folder"
    done
}

find_java() {
    java_homes | while IFS= read -r folder; do
        if [ -n "$folder" ] && java_fits "$folder"; then printf '%s\n' "$folder"; break; fi
    done
}

package_manager() {
    for manager in apt-get dnf yum apk zypper pacman brew; do
        if command -v "$manager" >/dev/null 2>&1; then echo "$manager"; return; fi
    done
}

# The line that installs Java with this system's package manager; empty where we know none.
java_line() {
    case $(package_manager) in
        apt-get)
            release=17
            apt-cache show openjdk-17-jre-headless >/dev/null 2>&1 || release=21
            echo "apt-get install -y --no-install-recommends openjdk-$release-jre-headless"
            ;;
        dnf) echo "dnf install -y java-21-openjdk-headless" ;;
        yum) echo "yum install -y java-17-openjdk-headless" ;;
        apk) echo "apk add openjdk17-jdk" ;;
        zypper) echo "zypper --non-interactive install java-17-openjdk-headless" ;;
        pacman) echo "pacman -S --noconfirm jre17-openjdk-headless" ;;
        brew) echo "brew install openjdk@17" ;;
    esac
}

install_java() {
    manager=$(package_manager)
    if [ "$manager" = brew ] || [ "$(id -u)" -eq 0 ]; then as_root=
    elif sudo -n true >/dev/null 2>&1; then as_root="sudo -n"
    else return 0
    fi
    # A fresh machine has no lists of packages yet.
    # shellcheck disable=SC2086 # words on purpose
    [ "$manager" != apt-get ] || patiently "the system's list of packages" $as_root apt-get update || :
    line=$(java_line)
    [ -n "$line" ] || return 0
    # shellcheck disable=SC2086
    patiently "Java, by: $line" $as_root env DEBIAN_FRONTEND=noninteractive $line || :
}

java_runtime() {
    [ "$(cat "$venv/stamp-java" 2>/dev/null)" != "asked ${JAVA_HOME:-}" ] || [ ! -x "$(cat "$venv/java-home")/bin/java" ] || return 0
    home=$(find_java)
    if [ -z "$home" ]; then
        install_java
        home=$(find_java)
    fi
    if [ -z "$home" ]; then
        line=$(java_line)
        case $(package_manager) in brew | "") ;; *) line="sudo $line" ;; esac
        die "Java 17 or 21 (with the module jdk.incubator.vector) is missing. Type: ${line:-install a Java 17 and set JAVA_HOME}"
    fi
    say "Java in $home"
    printf '%s\n' "$home" >"$venv/java-home"
    printf 'asked %s\n' "${JAVA_HOME:-}" >"$venv/stamp-java"
}

# ---- all of it --------------------------------------------------------------------------------------------------------

# One look decides whether there is anything to do.
everything() {
    digest requirements.txt pyproject.toml infra/setup.sh bus/streaming/jars.py bus/streaming/class_archive.py bus/streaming/session.py
    printf '%s\n' "$PWD" "java ${JAVA_HOME:-}" "jars ${TAILRACE_JARS:-}"
}

if [ -x "$venv/bin/tailrace" ] && [ -f "$venv/stamp" ] && [ "$(cat "$venv/stamp")" = "$(everything)" ] &&
    [ -x "$(cat "$venv/java-home")/bin/java" ]; then
    exit 0
fi

environment
: >"$log"
packages
java_runtime
patiently "Delta's JARs" "$python" -m bus.streaming.jars || die "Delta's JARs could not be fetched; this needs the network once"
patiently "an archive that starts Java sooner" "$python" -m bus.streaming.class_archive || say "went on without the archive: Spark only starts slower"
everything >"$venv/stamp"
say "ready"
