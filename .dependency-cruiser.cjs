// Imports point down only (docs/architecture.md). Each layer lists the folders it may reach.
const LAYERS = {
  "src/core": [],
  // Runs in the browser, where nothing else of the tree is.
  "src/page": [],
  models: ["src/core"],
  "src/grammar": ["src/core"],
  "src/kv": ["src/core"],
  "src/spec": ["src/kv", "src/runner", "src/core"],
  "src/runner": ["src/core", "src/program"],
  "src/text": ["src/core"],
  "src/encoder": ["src/text", "src/core"],
  "src/program": ["models", "src/core"],
  "src/loader": ["models", "src/core"],
  "src/scheduler": ["src/spec", "src/kv", "src/core"],
  "src/engine": [
    "src/grammar",
    "src/scheduler",
    "src/kv",
    "src/spec",
    "src/runner",
    "src/loader",
    "src/program",
    "models",
    "src/core",
  ],
  "src/quantize": [
    "src/engine",
    "src/text",
    "src/loader",
    "src/runner",
    "src/program",
    "models",
    "src/core",
  ],
  "src/packaging": ["src/core"],
  "src/server": [
    "src/text",
    "src/grammar",
    "src/encoder",
    "src/engine",
    "src/core",
  ],
  "src/api": [
    "src/server",
    "src/encoder",
    "src/engine",
    "src/loader",
    "src/text",
    "src/core",
  ],
  "src/cli": [
    "src/server",
    "src/quantize",
    "src/engine",
    "src/encoder",
    "src/grammar",
    "src/loader",
    "src/text",
    "src/runner",
    "src/page",
    "src/core",
    "bench",
  ],
};

const rules = Object.entries(LAYERS).map(([layer, below]) => ({
  name: `${layer.replace("src/", "")}-imports-down`,
  severity: "error",
  // models/starter holds the built-in model's corpus and eval: programs of their own, above everything.
  from: { path: `^${layer}/`, pathNot: "^models/starter/" },
  to: {
    path: "^(src|models|bench|test)/",
    pathNot: `^(${[layer, ...below].join("|")})/`,
  },
}));

module.exports = {
  forbidden: [
    ...rules,
    {
      name: "server-sees-the-engine-only-through-its-client",
      severity: "error",
      from: { path: "^src/server/" },
      to: {
        path: "^src/engine/",
        pathNot: "^src/engine/(engine-client|messages|stats)\\.ts$",
      },
    },
    {
      name: "only-addon-loads-native",
      severity: "error",
      from: { path: "^(src|models)/", pathNot: "^src/runner/addon\\.ts$" },
      to: { path: "\\.node$" },
    },
    {
      name: "nothing-imports-tests",
      severity: "error",
      from: { path: "^(src|models|bench)/" },
      to: { path: "^test/" },
    },
    {
      name: "no-cycles",
      severity: "error",
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } },
    },
    {
      name: "no-barrels",
      severity: "error",
      from: {},
      to: { path: "^(src|models|bench)/.*index\\.ts$" },
    },
    {
      name: "no-unresolved",
      severity: "error",
      from: {},
      to: { couldNotResolve: true },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsConfig: { fileName: "tsconfig.json" },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ["exports"],
      conditionNames: ["import", "types", "node", "default"],
    },
  },
};
