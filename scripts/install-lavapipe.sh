#!/usr/bin/env bash
# Unpacks lavapipe, Mesa's Vulkan on the CPU, into the user's cache folder: unlike SwiftShader it has shader-f16 and
# subgroups, so that the tier `f16` can be tested without a GPU. Tests find it there (scripts/test/lavapipe.ts).
#
# Takes the packages of this Debian or Ubuntu through apt, as any user: nothing is installed, and apt's own state and the
# system's libraries stay as they are. Dawn needs Mesa 25, which Debian 12 has in its backports.
#
# Says what it did; the exit status is not 0 where there is no lavapipe to be had.
set -euo pipefail

folder="${XDG_CACHE_HOME:-$HOME/.cache}/sparse-attention/lavapipe"
if [[ -f "$folder/lvp_icd.json" ]]; then
  echo "lavapipe: in $folder"
  exit 0
fi
refuse() {
  echo "lavapipe: not installed, $1"
  exit 1
}
command -v apt-get dpkg-deb >/dev/null || refuse "this system has no apt"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{state/lists/partial,cache/archives/partial,sources,root}

# The system's own sources, and for Debian 12 the backports of the same mirror.
cp -r /etc/apt/sources.list.d/. "$work/sources/" 2>/dev/null || true
apt=(
  -o Dir::State="$work/state" -o Dir::State::status=/var/lib/dpkg/status -o Dir::Cache="$work/cache"
  -o Dir::Etc::sourceparts="$work/sources" -o Debug::NoLocking=1 -o Acquire::Retries=1 -o Acquire::http::Timeout=30
  -o Acquire::Languages=none -qq
)
codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
target=()
if [[ $codename == bookworm ]]; then
  mirror=$(apt-get "${apt[@]}" indextargets --format '$(REPO_URI)' 'Codename: bookworm' 2>/dev/null | head -n 1)
  keys=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$keys] ${mirror:-http://deb.debian.org/debian} bookworm-backports main" >"$work/sources/backports.list"
  target=(-t bookworm-backports)
fi
timeout 120 apt-get "${apt[@]}" update >"$work/log" 2>&1 || refuse "apt cannot update its lists"
timeout 300 apt-get "${apt[@]}" install -y --no-install-recommends --download-only "${target[@]}" \
  mesa-vulkan-drivers libvulkan1 >"$work/log" 2>&1 || refuse "apt cannot get mesa-vulkan-drivers"

for package in "$work"/cache/archives/*.deb; do dpkg-deb -x "$package" "$work/root"; done
driver=$(find "$work/root" -name libvulkan_lvp.so -print -quit)
# What the system has already installed, apt does not download.
[[ -n $driver ]] || driver=$(find /usr/lib -name libvulkan_lvp.so -print -quit)
[[ -n $driver ]] || refuse "mesa-vulkan-drivers has no lavapipe here"

mkdir -p "$work/lavapipe"
# The loader and libraries, without Mesa's other drivers and OpenGL.
find "$work/root" \( -name '*.so' -o -name '*.so.*' \) ! -name 'libvulkan_*' ! -name '*dri*.so' ! -name 'libgallium*' \
  ! -name 'libVkLayer*' ! -name 'lib[EG]*' -exec cp -P {} "$work/lavapipe/" \;
cp "$driver" "$work/lavapipe/libvulkan_lvp.so"
cat >"$work/lavapipe/lvp_icd.json" <<JSON
{ "file_format_version": "1.0.0", "ICD": { "library_path": "./libvulkan_lvp.so", "api_version": "1.4.0" } }
JSON

# Into place at once, so that what is there is complete.
mkdir -p "$(dirname "$folder")"
cp -r "$work/lavapipe" "$folder.$$.partial"
mv -T "$folder.$$.partial" "$folder" 2>/dev/null || rm -rf "$folder.$$.partial"
echo "lavapipe: unpacked to $folder"
