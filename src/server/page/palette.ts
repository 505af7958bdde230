/** Colours of everything that this project shows in a browser, as CSS custom properties: s1, s2 and s3 are series. */
export const LIGHT = `
  --paper: #ffffff; --panel: #f6f7f9; --ink: #1c2430; --quiet: #5b6675; --rule: #dfe3e8;
  --s1: #1f6feb; --s2: #c2560c; --s3: #0f8a6a; --bar: #6ea1f0; --bad: #c62f3b;`;

export const DARK = `
  --paper: #12161c; --panel: #1a2029; --ink: #e6eaf0; --quiet: #9aa6b5; --rule: #2c3541;
  --s1: #6ea8fe; --s2: #f0a35e; --s3: #4cc9a0; --bar: #3f6fb5; --bad: #ff7b86;`;
