/** Most levels of lists and objects in JSON that a request brings: what reads it calls itself for each, and has a stack. */
export const MAX_NESTING = 256;

/** Whether `value` has more than `levels` of them; true for one that contains itself. */
export function nestsTooDeep(value: unknown, levels = MAX_NESTING): boolean {
  if (typeof value !== "object" || value === null) return false;
  if (levels === 0) return true;
  const entries: unknown[] = Array.isArray(value)
    ? value
    : Object.values(value);
  for (const entry of entries)
    if (typeof entry === "object" && nestsTooDeep(entry, levels - 1))
      return true;
  return false;
}
