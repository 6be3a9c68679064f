# Sourced by the other scripts: prepare_environment DIR makes (or reuses) a virtual environment
# with shardgraph and its development tools, pinned by constraints.txt.

prepare_environment() {
    local directory=$1 wanted
    wanted=$(cat pyproject.toml constraints.txt scripts/environment.sh | cksum)
    if [ "$(cat "$directory/.installed" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    echo "Preparing $directory (once; a minute or two) ..." >&2
    "${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "shardgraph needs Python 3.11 or newer; set PYTHON to one." >&2
        return 1
    }
    "${PYTHON:-python3}" -m venv --clear "$directory"
    "$directory/bin/python" -m pip install --quiet --upgrade "pip>=25.1"
    "$directory/bin/python" -m pip install --quiet --constraint constraints.txt --editable . --group dev
    echo "$wanted" > "$directory/.installed"
}
