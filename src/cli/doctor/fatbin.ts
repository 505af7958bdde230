/** First word of each container of device code that nvcc leaves in a library. */
const CONTAINER_MAGIC = 0xba55ed50;
const KIND_CUBIN = 2;
const CONTAINER_HEADER = 16;
/** Far above what one container has: stops at what only looks like one. */
const MAX_ENTRIES = 4096;

/**
 * Architectures that a library has machine code for, such as [86, 90].
 *
 *   container  u32 magic, u16 version, u16 header bytes, u64 bytes of the entries
 *   entry      u16 kind (1: PTX, 2: cubin), u16, u32 header bytes, u64 bytes, ..., at 28: u32 architecture
 *
 * The layout is not documented by NVIDIA; it is what `cuobjdump --list-elf` reads, and it has been the same since CUDA 5.
 */
export function cubinArchitectures(library: Buffer): number[] {
  const found = new Set<number>();
  const magic = Buffer.alloc(4);
  magic.writeUInt32LE(CONTAINER_MAGIC);
  for (
    let at = library.indexOf(magic);
    at >= 0;
    at = library.indexOf(magic, at + 4)
  )
    readContainer(library, at, found);
  return [...found].sort((a, b) => a - b);
}

function readContainer(library: Buffer, at: number, found: Set<number>): void {
  if (at + CONTAINER_HEADER > library.length) return;
  const bytes = Number(library.readBigUInt64LE(at + 8));
  let entry = at + library.readUInt16LE(at + 6);
  const end = Math.min(entry + bytes, library.length);
  for (let i = 0; i < MAX_ENTRIES && entry + 32 <= end; i++) {
    const architecture = library.readUInt32LE(entry + 28);
    if (
      library.readUInt16LE(entry) === KIND_CUBIN &&
      architecture >= 10 &&
      architecture < 1000
    )
      found.add(architecture);
    const step =
      library.readUInt32LE(entry + 4) +
      Number(library.readBigUInt64LE(entry + 8));
    if (step <= 0) return;
    entry += step;
  }
}
