/**
 * How many of the drafts are what the target samples. Row `firstRow` of `sampledIds` follows the last known token and row
 * `firstRow + j` follows drafts[0, j), so row j is right whatever became of the rows behind it:
 *
 *   rows      t        d0       d1       d2          t: the last known token
 *   sampled   s0       s1       s2       s3
 *             s0 = d0, s1 = d1, s2 != d2: 2 are accepted, s2 is recovered, s3 is dropped; were s2 = d2, s3 would be the bonus
 *
 * Every row is sampled with the noise of its own (seed, position), as if it were decoded alone. So what is accepted,
 * with the token after it, is token for token what plain decoding gives, for any drafts and any sampling.
 */
export function countAccepted(
  drafts: Int32Array,
  numDrafts: number,
  sampledIds: Int32Array,
  firstRow: number,
): number {
  let accepted = 0;
  while (
    accepted < numDrafts &&
    drafts[accepted] === sampledIds[firstRow + accepted]
  )
    accepted++;
  return accepted;
}
