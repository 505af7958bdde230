/**
 * Well-formed UTF-8 as an automaton over bytes (Unicode 15, table 3-7). States:
 *
 *   0       between characters        4  behind E0 (A0-BF)     6  behind F0 (90-BF)
 *   1 2 3   1, 2, 3 bytes to come     5  behind ED (80-9F)     7  behind F4 (80-8F)
 */
export const NUM_STATES = 8;
const INVALID = -1;

/** The state behind `byte`; -1: ill-formed. */
export function nextState(state: number, byte: number): number {
  switch (state) {
    case 0:
      return leadState(byte);
    case 1:
      return within(byte, 0x80, 0xbf) ? 0 : INVALID;
    case 2:
      return within(byte, 0x80, 0xbf) ? 1 : INVALID;
    case 3:
      return within(byte, 0x80, 0xbf) ? 2 : INVALID;
    case 4:
      return within(byte, 0xa0, 0xbf) ? 1 : INVALID;
    case 5:
      return within(byte, 0x80, 0x9f) ? 1 : INVALID;
    case 6:
      return within(byte, 0x90, 0xbf) ? 2 : INVALID;
    case 7:
      return within(byte, 0x80, 0x8f) ? 2 : INVALID;
    default:
      return INVALID;
  }
}

function leadState(byte: number): number {
  if (byte < 0x80) return 0;
  if (within(byte, 0xc2, 0xdf)) return 1;
  if (byte === 0xe0) return 4;
  if (byte === 0xed) return 5;
  if (within(byte, 0xe1, 0xef)) return 2;
  if (byte === 0xf0) return 6;
  if (within(byte, 0xf1, 0xf3)) return 3;
  return byte === 0xf4 ? 7 : INVALID;
}

function within(byte: number, low: number, high: number): boolean {
  return byte >= low && byte <= high;
}

/** The state behind all of `bytes`; -1: ill-formed. */
export function stateAfter(state: number, bytes: Uint8Array): number {
  let at = state;
  for (const byte of bytes) {
    at = nextState(at, byte);
    if (at === INVALID) return INVALID;
  }
  return at;
}
