#!/bin/sh
# Turns the output of ptxas -v into a Markdown table; fails if a kernel spills registers or has more static shared
# memory than a block of sm_86 may (99 KB), or if there is nothing to report.
# usage: ptxas_report.sh LOG
set -eu
demangle=$(command -v cu++filt || command -v c++filt || echo cat)
sed -n "s/^ptxas info *: Compiling entry function '\([^']*\)' for '\([^']*\)'.*/K \2 \1/p; s/^ *\([0-9]*\) bytes stack frame, \([0-9]*\) bytes spill stores, \([0-9]*\) bytes spill loads.*/S \1 \2 \3/p; s/^ptxas info *: Used \([0-9]*\) registers\(.*\)/R \1 \2/p" "$1" |
  "$demangle" |
  awk '
    # kernels and helpers report in the order K, S, R
    $1 == "K" {
      arch = $2
      name = $0
      sub(/^K [^ ]* /, "", name)
      gsub(/octavo::cuda::|\(anonymous namespace\)::|<unnamed>::|_NV_ANON_NAMESPACE::|\(int\)|\(bool\)|void /, "", name)
      gsub(/[A-Za-z0-9_]*_GLOBAL__N__[A-Za-z0-9_]*::/, "", name)
      sub(/\([A-Za-z].*$/, "", name)
    }
    $1 == "S" { spill = $3 + $4; stack = $2 }
    $1 == "R" {
      shared = 0
      for (i = 3; i < NF; i++) if ($(i + 1) == "bytes" && $(i + 2) ~ /^smem/) shared = $i
      key = name SUBSEP arch
      if (!(name in seen)) { seen[name] = ++count; names[count] = name }
      registers[key] = $2; spills[key] = spill; smem[key] = shared
      spill = 0
    }
    function row(name, arch,   key) {
      key = name SUBSEP arch
      if (!(key in registers)) return "- | - | -"
      if (spills[key] > 0 || smem[key] > 101376) bad[++numBad] = name " (" arch "): " spills[key] " bytes of spills, " smem[key] " of static shared memory"
      return registers[key] " | " smem[key] " | " spills[key]
    }
    END {
      if (count == 0) { print "no ptxas report found" > "/dev/stderr"; exit 1 }
      print "| kernel | sm_86 registers | static shared bytes | spills | sm_90a registers | static shared bytes | spills |"
      print "|---|---|---|---|---|---|---|"
      for (i = 1; i <= count; i++) print "| `" names[i] "` | " row(names[i], "sm_86") " | " row(names[i], "sm_90a") " |"
      for (i = 1; i <= numBad; i++) print "refused: " bad[i] > "/dev/stderr"
      exit numBad > 0
    }'
