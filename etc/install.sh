#!/bin/sh
# Installs Secure Chat from the unpacked tarball, or removes it.
set -eu

usage() {
	cat <<'TEXT'
Usage: install.sh [--prefix DIR] [--client | --server] [--uninstall]

  --prefix DIR   where bin/, share/ and lib/systemd/system/ are [/usr/local]
  --client       install chat-client alone
  --server       install chat-server alone
  --uninstall    remove what was installed below DIR; the history and the settings stay

Without --client or --server, root installs both programs, and any other user the client.
Exit codes: 0 done, 1 it can't be done, 2 usage error.
TEXT
}

say() {
	echo "install.sh: $1"
}

fail() {
	echo "install.sh: $1" >&2
	exit "${2:-1}"
}

need_value() {
	[ "$2" -gt 1 ] || fail "$1 needs a value; see install.sh --help" 2
}

prefix=
client=
server=
uninstall=
while [ $# -gt 0 ]; do
	case $1 in
		--prefix) need_value "$1" $# && prefix=$2 && shift ;;
		--prefix=*) prefix=${1#--prefix=} ;;
		--client) client=yes ;;
		--server) server=yes ;;
		--uninstall) uninstall=yes ;;
		--help | -h) usage && exit 0 ;;
		*) fail "unknown option $1; see install.sh --help" 2 ;;
	esac
	shift
done

here=$(cd "$(dirname "$0")" && pwd)
user=$(id -u)
# The copy that was installed removes what is below its own prefix.
if [ -z "$prefix" ]; then
	case $here in
		*/share/secure-chat) prefix=${here%/share/secure-chat} ;;
		*) prefix=/usr/local ;;
	esac
fi
case $prefix in
	/*) ;;
	*) prefix=$(pwd)/$prefix ;;
esac
prefix=${prefix%/}
# Every installed path is in this list, each in a line of its own. Folders that were made end with a slash.
list=$prefix/share/secure-chat/installed
case $prefix in
	*"
"*) fail "--prefix: a line break in the name of a folder is not supported" 2 ;;
esac

# Whether systemd runs, reads the units below the prefix, and obeys this user.
has_systemd() {
	[ "$user" = 0 ] && [ "$prefix" = /usr/local ] && [ -d /run/systemd/system ]
}

is_active() {
	systemctl is-active --quiet "$1"
}

remove() {
	[ -f "$list" ] || fail "$list does not exist: nothing was installed below $prefix"
	[ -w "$list" ] || fail "$list can't be changed by this user; run install.sh --uninstall as its owner"
	if has_systemd && grep -q '/chat-server\.service$' "$list"; then
		systemctl disable --now --quiet chat-server.socket chat-server.service chat-server-ngrok.service || true
	fi
	if has_systemd && grep -q '/chat-bot@\.service$' "$list"; then
		systemctl stop --quiet 'chat-bot@*.service' || true
		rm -f /etc/systemd/system/multi-user.target.wants/chat-bot@*.service
	fi
	folders=$(grep '/$' "$list" | LC_ALL=C sort -r || true)
	while IFS= read -r path; do
		case $path in
			*/) ;;
			*) rm -f -- "$path" "$path.new" ;;
		esac
	done <"$list"
	rm -f -- "$list"
	# A folder that holds something else stays.
	printf '%s\n' "$folders" | while IFS= read -r path; do
		[ -z "$path" ] || rmdir -- "${path%/}" 2>/dev/null || true
	done
	if has_systemd; then systemctl daemon-reload; fi
}

if [ -n "$uninstall" ]; then
	[ -z "$client$server" ] || fail "--uninstall removes everything that was installed; leave out --client and --server" 2
	remove
	say "removed from $prefix; the history (/var/lib/chat-server) and the settings (/etc/chat-server) were not touched"
	exit 0
fi

[ -f "$here/programs/chat-client" ] || fail "$here is not the unpacked tarball"
if [ "$user" != 0 ]; then
	[ -z "$server" ] || fail "the server is a system service, so root must install it: sudo ./install.sh --server"
	if [ -z "$client" ]; then
		say "this user is not root: installing chat-client alone (the server is a system service)"
		client=yes
	fi
fi
if [ -z "$client$server" ]; then
	client=yes
	server=yes
fi

[ "$(uname -s)" = Linux ] || fail "these programs run on Linux only"
machine=$(cat "$here/machine")
[ "$(uname -m)" = "$machine" ] || fail "these programs are for $machine; this machine is $(uname -m)"
for program in "$here/programs/chat-client" "$here/programs/chat-server"; do
	if ! "$program" --version >/dev/null 2>&1; then
		fail "$program does not run here. It needs glibc $(cat "$here/glibc") or newer; this system has $(getconf GNU_LIBC_VERSION 2>/dev/null || echo 'another C library')"
	fi
done
# The nearest folder that exists must take new ones.
parent=$prefix
while [ ! -e "$parent" ]; do parent=$(dirname "$parent"); done
if [ ! -d "$parent" ] || [ ! -w "$parent" ]; then
	fail "$parent can't be written by this user; name a folder that can: ./install.sh --prefix \"\$HOME/.local\""
fi
for package in chat-client chat-server; do
	if [ "$prefix" = /usr/local ] && dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$'; then
		fail "the package $package is installed; remove it first (apt-get purge $package removes its history and settings too, apt-get remove does not)"
	fi
done

# An earlier version may have installed other files.
earlier=
if [ -f "$list" ]; then
	[ -w "$list" ] || fail "$list can't be changed by this user; run install.sh as its owner"
	earlier=$(cat "$list")
fi

make_folder() {
	if [ ! -d "$1" ]; then
		make_folder "$(dirname "$1")"
		mkdir -m 755 -- "$1"
		new="$new$1/
"
	fi
}

# begin PATH: makes the folder of a file, and notes the file.
begin() {
	make_folder "$(dirname "$prefix/$1")"
	new="$new$prefix/$1
"
}

# finish MODE PATH: the file that was written gets its name. A program that runs is replaced, not overwritten.
finish() {
	chmod "$1" "$prefix/$2.new"
	mv -f -- "$prefix/$2.new" "$prefix/$2"
}

# put MODE FILE PATH
put() {
	begin "$3"
	cp -- "$here/$2" "$prefix/$3.new"
	finish "$1" "$3"
}

# put_unit FILE: with the path of the programs below the prefix.
put_unit() {
	unit=lib/systemd/system/$1
	begin "$unit"
	escaped=$(printf '%s' "$prefix" | sed 's/[\\&|]/\\&/g')
	sed "s|^\\(Exec[A-Za-z]*=\\)/usr/local/bin/|\\1$escaped/bin/|" "$here/systemd/$1" >"$prefix/$unit.new"
	finish 644 "$unit"
}

# put_program NAME: with its manual page and completions.
put_program() {
	put 755 "programs/$1" "bin/$1"
	put 644 "man/$1.1" "share/man/man1/$1.1"
	put 644 "completions/$1.bash" "share/bash-completion/completions/$1"
	put 644 "completions/_$1" "share/zsh/site-functions/_$1"
	put 644 "completions/$1.fish" "share/fish/vendor_completions.d/$1.fish"
}

# Writes the list, also when something failed: what was put so far can be removed then.
# shellcheck disable=SC2317 # called by the trap
save_list() {
	# What an earlier call installed, the other program for example, stays in the list.
	printf '%s\n%s\n%s\n' "$earlier" "$new" "$list" | grep . | sort -u >"$list.new"
	mv -f -- "$list.new" "$list"
}

new=
umask 022
make_folder "$(dirname "$list")"
trap save_list EXIT
trap 'exit 130' INT TERM
if [ -n "$client" ]; then
	put_program chat-client
	put 644 bot.env share/doc/secure-chat/bot.env
	put_unit chat-bot@.service
fi
if [ -n "$server" ]; then
	put_program chat-server
	put 755 programs/ngrok-sidecar bin/ngrok-sidecar
	put 644 man/ngrok-sidecar.1 share/man/man1/ngrok-sidecar.1
	for file in chat-server.toml alerts.yml grafana-dashboard.json; do put 644 "$file" "share/doc/secure-chat/$file"; done
	for unit in chat-server.service chat-server.socket chat-server-ngrok.service; do put_unit "$unit"; done
fi
for file in LICENSE CHANGELOG.md THIRD-PARTY-LICENSES; do put 644 "$file" "share/doc/secure-chat/$file"; done
put 755 install.sh share/secure-chat/install.sh
say "installed below $prefix; to remove it: $prefix/share/secure-chat/install.sh --uninstall"
if [ -n "$server" ]; then
	if has_systemd; then
		systemctl daemon-reload
		for unit in chat-server.service chat-server.socket; do
			if [ -e "/etc/systemd/system/$unit" ] || [ -L "/etc/systemd/system/$unit" ]; then
				say "/etc/systemd/system/$unit is used instead of the unit that was installed; remove it to use that one"
			fi
		done
		if ! is_active chat-server.service; then
			say "to start the server now and at each boot: systemctl enable --now chat-server.socket chat-server.service"
		elif problems=$({ env -i STATE_DIRECTORY=/var/lib/chat-server RUNTIME_DIRECTORY=/run/chat-server \
			"$prefix/bin/chat-server" check >/dev/null; } 2>&1); then
			# The socket stays open while the service restarts.
			systemctl restart chat-server.service || fail "the server did not start. The reason: journalctl -t chat-server -n 20"
			say "the server runs the new program"
		else
			printf '%s\n' "$problems" >&2
			fail "NOT RESTARTED: the new program can't start with this configuration or history (above). The old program goes on running. Correct what is wrong, then: systemctl restart chat-server"
		fi
	elif [ "$prefix" != /usr/local ]; then
		say "systemd does not look below $prefix: systemctl link $prefix/lib/systemd/system/chat-server.service $prefix/lib/systemd/system/chat-server.socket"
	fi
fi
if [ -n "$client" ]; then
	case :$PATH: in
		*:"$prefix/bin":*) ;;
		*) say "$prefix/bin is not on your PATH" ;;
	esac
fi
exit 0
