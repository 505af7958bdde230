/** One round of a 32-bit multiply-xor hash: what the runners without a model make their tokens of. */
export function mix(state: number, value: number): number {
  let hash = Math.imul(state ^ value, 0x9e3779b1) + 0x7f4a7c15;
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 0x85ebca6b);
  return hash ^ (hash >>> 13);
}
