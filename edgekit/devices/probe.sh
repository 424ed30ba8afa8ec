# What a device is, in one go: sh -s MARK FOLDER ASK LIST PACKAGE=MODULE... < this file.
#
# Every answer follows a line "MARK NAME". For any POSIX shell: dash, busybox, Android's mksh. Whatever is missing on
# the device stays unanswered, and nothing is left behind there.
#
# All of it is one function: the shell has read it whole before the first program could take its standard input.

probe() {
    mark=$1 folder=$2 ask=$3 list=$4
    shift 4
    # No module of the user's in the working folder may pass for one that Python has.
    cd / || exit 1
    name() { printf '\n%s %s\n' "$mark" "$1"; }
    # The first line of a small file. By the shell itself: there are many, and programs are slow to start.
    first() { line='' && read -r line 2>/dev/null <"$1"; printf '%s' "$line"; }
    show() { [ -r "$2" ] && name "$1" && head -c 65536 "$2" 2>/dev/null; }
    texts() { [ -r "$2" ] && name "$1" && head -c 4096 "$2" 2>/dev/null | tr '\0' '\n'; }
    # Where sh is part of busybox, its name has no path.
    case $(command -v sh) in /*) shell=$(command -v sh) ;; *) shell=/bin/sh ;; esac
    # Old versions of busybox want `timeout -t 20`.
    if timeout 5 true 2>/dev/null; then bound='timeout 20'; else bound=''; fi

    name clock && date +%s
    # The order of -s, -r and -m does not matter to uname: each is asked for by itself.
    name kernel && uname -s && uname -r && uname -m
    show cpuinfo /proc/cpuinfo
    show online /sys/devices/system/cpu/online
    show memory /proc/meminfo
    show load /proc/loadavg
    show uptime /proc/uptime
    texts model /proc/device-tree/model
    texts compatible /proc/device-tree/compatible
    if [ -r /sys/class/dmi/id/product_name ]; then
        name dmi && first /sys/class/dmi/id/sys_vendor && echo && first /sys/class/dmi/id/product_name
    fi
    show os /etc/os-release || show os /usr/lib/os-release
    # The shell's own file says how wide the programs here are: kernels may be wider.
    name width && head -c 5 "$shell" | od -An -tu1
    libc
    clocks
    heat
    battery
    if command -v getprop >/dev/null 2>&1; then android; fi
    disk
    pythons "$@"
    name benchmark_models
    for file in "$(command -v benchmark_model)" "$HOME/benchmark_model" /usr/local/bin/benchmark_model \
        /data/local/tmp/benchmark_model*; do
        [ -f "$file" ] && [ -x "$file" ] && printf '%s\n' "$file"
    done
    name end
}

libc() {
    name libc
    getconf GNU_LIBC_VERSION 2>&1
    ldd --version 2>&1 | head -n 2
    # Where there is neither, glibc itself tells its version when it is run.
    for file in /lib/*/libc.so.6 /lib64/libc.so.6 /lib/libc.so.6; do
        [ -x "$file" ] && $bound "$file" 2>/dev/null | head -n 1 && break
    done
    for file in /system/bin/linker64 /system/bin/linker; do [ -e "$file" ] && echo bionic && break; done
}

clocks() {
    name clocks
    for policy in /sys/devices/system/cpu/cpufreq/policy*; do
        [ -r "$policy/scaling_governor" ] || continue
        for file in scaling_governor scaling_driver scaling_cur_freq scaling_max_freq cpuinfo_max_freq; do
            first "$policy/$file" && printf '|'
        done
        first "$policy/affected_cpus" && echo
    done
}

heat() {
    name zones
    for zone in /sys/class/thermal/thermal_zone*; do
        [ -r "$zone/temp" ] && first "$zone/type" && printf '|' && first "$zone/temp" && echo
    done
    name sensors
    for sensor in /sys/class/hwmon/hwmon*; do
        [ -r "$sensor/temp1_input" ] && first "$sensor/name" && printf '|' && first "$sensor/temp1_input" && echo
    done
    name throttle_counts
    for file in /sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count; do
        [ -r "$file" ] && first "$file" && echo
    done
    show throttled_file /sys/devices/platform/soc/soc:firmware/get_throttled
    for program in vcgencmd /usr/bin/vcgencmd /opt/vc/bin/vcgencmd; do
        command -v "$program" >/dev/null 2>&1 && name throttled && $bound "$program" get_throttled 2>&1 && break
    done
}

battery() {
    name supplies
    for supply in /sys/class/power_supply/*; do
        [ -r "$supply/type" ] || continue
        for file in type scope capacity status online; do first "$supply/$file" && printf '|'; done
        first "$supply/temp" && echo
    done
}

android() {
    name properties
    for property in ro.product.manufacturer ro.product.model ro.soc.manufacturer ro.soc.model ro.board.platform \
        ro.build.version.release ro.build.version.sdk ro.build.version.security_patch ro.build.fingerprint; do
        printf '%s=%s\n' "$property" "$(getprop "$property")"
    done
    name dumpsys_battery && $bound dumpsys battery 2>/dev/null | head -n 40
    name dumpsys_thermal && $bound dumpsys thermalservice 2>/dev/null | head -n 200
    name low_power && $bound settings get global low_power 2>/dev/null
}

# Where edgekit would write: the folder, or the nearest one above it that exists.
disk() {
    place=$folder
    while [ -n "$place" ] && [ ! -d "$place" ]; do place=${place%/*}; done
    place=${place:-/}
    name place && printf '%s\n' "$place"
    name disk && df -Pk "$place" 2>/dev/null | tail -n 1
    # Only an attempt tells: permissions say nothing of read-only disks, nor of those where nothing may be run.
    attempt="${place%/}/.$mark"
    [ -e "$attempt" ] && return
    # Only this one is ever removed, however the script ends; no other function knows its name.
    trap 'rm -f "$attempt"' EXIT HUP INT TERM
    name write
    if (set -C && umask 077 && printf '#!%s\nexit 42\n' "$shell" >"$attempt") 2>&1; then
        echo ok
        name execute
        chmod 700 "$attempt" 2>&1
        "$attempt" 2>&1
        [ $? -eq 42 ] && echo ok
    fi
    rm -f "$attempt"
    trap - EXIT HUP INT TERM
}

pythons() {
    python=$(command -v python3) || return
    name python && printf '%s\n' "$python" && $bound "$python" -c "$ask" 2>&1
    for found in $($bound "$python" -c "$list" "$@" 2>/dev/null); do
        name "package $found"
        # Each in a process of its own, which it may crash.
        $bound "$python" -c "import ${found##*=}" 2>&1
        printf '\nstatus %s\n' "$?"
    done
}

probe "$@" </dev/null
