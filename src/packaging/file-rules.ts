/** Platform as packages name it in their binaries: linux-x64. */
export interface Platform {
  os: string;
  arch: string;
  libc: "gnu" | "musl" | "";
}

const SYSTEMS = ["android", "darwin", "freebsd", "linux", "openbsd", "win32"];
/** At the top of a package; deeper ones may be code. */
const UNUSED_FOLDERS =
  /^(tests?|__tests__|benchmarks?|examples?|docs?|\.github)\//;
const UNUSED_FILES =
  /(\.d\.[cm]?ts|\.map|\.markdown|\.flow|\.tsbuildinfo|(^|\/)\.[^/]+)$/;
const TEXTS = /(^|\/)(licen[cs]e|notice|copying|copyright)[^/]*$/i;
const PROSE = /\.mdx?$/i;

/** Whether a file of a package (path within it) is needed to run on `platform`. */
export function isNeeded(file: string, platform: Platform): boolean {
  if (TEXTS.test(file)) return true;
  if (UNUSED_FOLDERS.test(file) || UNUSED_FILES.test(file) || PROSE.test(file))
    return false;
  return !/\.(node|so|dylib|dll)$/.test(file) || isFor(file, platform);
}

/** A binary without a platform in its path is for this one: it was built or installed here. */
function isFor(file: string, { os, arch, libc }: Platform): boolean {
  const named = SYSTEMS.find((system) =>
    new RegExp(`(^|[./_-])${system}[-_/]`).test(file),
  );
  if (named === undefined) return true;
  const words = file.split(/[./_-]/);
  if (named !== os || !words.includes(arch)) return false;
  const other = libc === "gnu" ? "musl" : "gnu";
  return libc === "" || !words.includes(other);
}
