import { execFileSync } from "node:child_process";
import { OctavoError } from "../core/errors.js";

/** Sorted names, no times, no owners: the same files give the same bytes. */
const TAR = [
  "--create",
  "--format=gnu",
  "--sort=name",
  "--mtime=@0",
  "--owner=0",
  "--group=0",
  "--numeric-owner",
];
/** From two threads on xz cuts the input into blocks of a fixed size, so the result does not depend on their number. */
const XZ = "--use-compress-program=xz -6 --threads=2";

/** Writes `parent/name` as a tar, through xz where asked for. Throws where GNU tar or xz is missing or fails. */
export function writeArchive(
  parent: string,
  name: string,
  file: string,
  compress: boolean,
): void {
  requireGnuTar();
  const compression = compress ? [XZ] : [];
  const what = ["--file", file, "--directory", parent, name];
  execFileSync("tar", [...TAR, ...compression, ...what], {
    stdio: ["ignore", "inherit", "inherit"],
  });
}

function requireGnuTar(): void {
  const version = execFileSync("tar", ["--version"], { encoding: "utf8" });
  if (!version.includes("GNU tar"))
    throw new OctavoError(
      "internal_error",
      `The bundle is written by GNU tar; this tar is ${version.split("\n")[0] ?? ""}.`,
    );
}
