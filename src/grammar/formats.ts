/** Formats of strings as regular expressions: what the grammar writes is always valid, but not all that is valid is written. */
const DAY = [
  "(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])",
  "(0[469]|11)-(0[1-9]|[12][0-9]|30)",
  "02-(0[1-9]|1[0-9]|2[0-8])",
].join("|");
const DATE = `(19|20)[0-9]{2}-(${DAY})`;
const CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]";
const TIME = `${CLOCK}:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]${CLOCK})`;
const BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
const LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,20}[A-Za-z0-9])?";
const HOST = `${LABEL}(\\.${LABEL}){0,4}`;
const DURATION_TIME =
  "T([0-9]{1,4}H([0-9]{1,4}M)?([0-9]{1,4}S)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S)";

/** Formats that say what a string is for, not how it is written. */
export const PURPOSES: ReadonlySet<string> = new Set([
  "binary",
  "directory-path",
  "file-path",
  "password",
  "path",
]);

export const FORMATS: Readonly<Record<string, string>> = {
  date: DATE,
  time: TIME,
  "date-time": `${DATE}T${TIME}`,
  duration: `P([0-9]{1,4}D(${DURATION_TIME})?|[0-9]{1,4}W|${DURATION_TIME})`,
  email: `[a-z0-9]([a-z0-9_+-]{0,20}[a-z0-9])?(\\.[a-z0-9]{1,20}){0,2}@${LABEL}(\\.${LABEL}){1,3}`,
  hostname: HOST,
  ipv4: `${BYTE}(\\.${BYTE}){3}`,
  ipv6: "([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}",
  uuid: "[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
  uri: `https?://${HOST}(/[A-Za-z0-9._~-]{1,40}){0,8}/?`,
};
