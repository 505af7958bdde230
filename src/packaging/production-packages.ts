import { OctavoError } from "../core/errors.js";

/** What is read of package-lock.json (lockfileVersion 3): folder -> package; "" is the root. */
export interface Lockfile {
  packages: Record<string, LockedPackage>;
}

export interface LockedPackage {
  version?: string;
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
}

/** Needed to build the addon only. */
const BUILD_ONLY = new Set(["node-addon-api"]);

/**
 * Folders ("node_modules/fastify") of the packages that the root needs to run, sorted: what its dependencies, and the
 * optional ones with `withOptional`, lead to. Optional packages of packages (binaries of a platform) may be missing;
 * the caller looks which are installed. Throws internal_error when the lockfile lacks one that is needed.
 */
export function productionPackages(
  { packages }: Lockfile,
  withOptional: boolean,
): string[] {
  const found = new Set<string>();
  const visit = (folder: string, names: string[], needed: boolean): void => {
    for (const name of names) {
      if (folder === "" && BUILD_ONLY.has(name)) continue;
      const dependency = resolve(packages, folder, name);
      if (dependency === null && needed)
        throw new OctavoError(
          "internal_error",
          `package-lock.json: ${folder || "the root"} needs ${name}, which is not in it`,
        );
      if (dependency === null || found.has(dependency)) continue;
      found.add(dependency);
      const entry = packages[dependency] ?? {};
      visit(dependency, Object.keys(entry.dependencies ?? {}), true);
      visit(dependency, Object.keys(entry.optionalDependencies ?? {}), false);
    }
  };
  const root = packages[""] ?? {};
  visit("", Object.keys(root.dependencies ?? {}), true);
  if (withOptional)
    visit("", Object.keys(root.optionalDependencies ?? {}), false);
  return [...found].sort();
}

/** As Node looks for it: in the package's own node_modules, then in those above. */
function resolve(
  packages: Lockfile["packages"],
  from: string,
  name: string,
): string | null {
  for (let folder = from; ;) {
    const candidate = `${folder}${folder === "" ? "" : "/"}node_modules/${name}`;
    if (packages[candidate]) return candidate;
    if (folder === "") return null;
    const parent = folder.lastIndexOf("/node_modules/");
    folder = parent < 0 ? "" : folder.slice(0, parent);
  }
}
