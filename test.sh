#!/usr/bin/env bash
# Runs everything CI runs: formatting, lints, documentation, and all tests (most of them on the GPU).
# On Linux without a Vulkan driver it first installs Mesa's software driver through apt; the tests of study journals need
# Python with Optuna, which goes to target/python.
# Exit code: 0 all passed, 2 the machine lacks something that could not be installed, else a check failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# Mesa's device-select layer fills stderr where no desktop session runs; anybit ranks adapters itself.
export NODEVICE_SELECT="${NODEVICE_SELECT:-1}"

step() { printf '\n== %s (%d s)\n' "$*" "$SECONDS"; }
stop() { printf 'error: %s\n' "$*" >&2; exit 2; }

has_loader() {
    compgen -G '/usr/lib*/libvulkan.so.1' >/dev/null && return 0
    { ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null | grep -F 'libvulkan.so.1' >/dev/null
}

has_driver() {
    [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] && return 0
    local folder
    for folder in /usr/share /usr/local/share /etc; do
        compgen -G "$folder/vulkan/icd.d/*.json" >/dev/null && return 0
    done
    return 1
}

install_driver() {
    command -v apt-get >/dev/null || stop "no Vulkan adapter, and no apt-get to install one with; install a Vulkan" \
        "driver and the Vulkan loader (Fedora: mesa-vulkan-drivers vulkan-loader; Arch: vulkan-swrast" \
        "vulkan-icd-loader; Alpine: mesa-vulkan-swrast vulkan-loader), then run ./test.sh again"
    apt_install mesa-vulkan-drivers libvulkan1
}

apt_install() {
    local packages=("$@") as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || stop "neither root nor sudo;" \
            "run as root: apt-get install ${packages[*]}"
        as_root=(sudo)
        [ -t 0 ] || as_root=(sudo -n)
    fi
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3)
    step "installing ${packages[*]}"
    # An index of some other source may be out of reach; what counts is whether the packages can be had.
    "${apt[@]}" update -q || echo "warning: apt-get update failed; trying with the package lists there are" >&2
    "${apt[@]}" install -q -y --no-install-recommends "${packages[@]}" || stop \
        "cannot install ${packages[*]}; check the network and the apt sources, or install them by hand"
}

# Optuna in an environment of its own; ANYBIT_PYTHON names an interpreter that has it already.
install_optuna() {
    local python="${ANYBIT_PYTHON:-target/python/bin/python}"
    "$python" -c 'import optuna' 2>/dev/null && return
    [ -z "${ANYBIT_PYTHON:-}" ] || stop "$ANYBIT_PYTHON has no module optuna; run: $ANYBIT_PYTHON -m pip install optuna"
    step 'installing Optuna into target/python'
    if ! python3 -m venv --clear target/python; then
        command -v apt-get >/dev/null || stop "no python3 with venv; install Python 3.9 or later, then run ./test.sh again"
        apt_install python3 python3-venv
        python3 -m venv --clear target/python || stop "python3 -m venv fails"
    fi
    target/python/bin/python -m pip install --quiet --disable-pip-version-check 'optuna>=4.0,<6' ||
        stop "cannot install Optuna; check the network, or name a Python that has it: ANYBIT_PYTHON=... ./test.sh"
}

command -v cargo >/dev/null || stop "no cargo; install Rust 1.95 or later from https://rustup.rs"
if [ "$(uname -s)" = Linux ] && ! { has_loader && has_driver; }; then
    install_driver
fi

install_optuna

# With the tests: they share what they need with the program, in the same features, so that nothing is compiled twice.
step 'build'
cargo test --release --no-run
anybit="$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release/anybit"

step 'adapters'
# A driver can be there without hardware for it, for instance in a container.
if ! "$anybit" devices; then
    if [ "$(uname -s)" != Linux ] || compgen -G '/usr/share/vulkan/icd.d/lvp_icd*.json' >/dev/null; then
        stop 'no usable adapter; the tests need one'
    fi
    install_driver
    "$anybit" devices || stop 'no usable adapter; the tests need one'
fi

if cargo fmt --version >/dev/null 2>&1; then
    step 'cargo fmt --check'
    cargo fmt --check
else
    step 'SKIPPED: cargo fmt is not installed (rustup component add rustfmt)'
fi

step 'cargo test'
cargo test --release

if cargo clippy --version >/dev/null 2>&1; then
    step 'cargo clippy'
    cargo clippy --release --all-targets -- -D warnings
else
    step 'SKIPPED: cargo clippy is not installed (rustup component add clippy)'
fi

step 'cargo doc'
RUSTDOCFLAGS='-D warnings' cargo doc --release --no-deps --lib --examples

step 'all passed'
