import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import protobuf from 'protobufjs';

/*
 * Holds a configuration of Envoy against the definitions of its API, which the package @grpc/grpc-js-xds brings along: names of
 * fields, names of enums, and kinds of values. They are about those of Envoy 1.32.
 */

const require = createRequire(import.meta.url);
const DEPS = join(dirname(require.resolve('@grpc/grpc-js-xds/package.json')), 'deps');
const FOLDERS = [
  ...['envoy-api', 'xds', 'googleapis', 'protoc-gen-validate'].map((name) => join(DEPS, name)),
  dirname(require.resolve('protobufjs/package.json')),
];

const placeOf = (name: string) => FOLDERS.map((folder) => join(folder, name)).find((path) => existsSync(path));

/** Files of the API whose imports are all there: some are about other projects, and theirs are not. */
function files(): string[] {
  const names = readdirSync(join(DEPS, 'envoy-api'), { recursive: true, encoding: 'utf8' });
  const known = new Map<string, boolean>();
  const isComplete = (name: string): boolean => {
    const before = known.get(name);
    if (before !== undefined || protobuf.common.get(name) !== null) return before ?? true;
    known.set(name, true);
    const place = placeOf(name);
    const text = place === undefined ? '' : readFileSync(place, 'utf8');
    const imports = [...text.matchAll(/^import\s+(?:public\s+)?"([^"]+)";/gm)].map((match) => match[1] as string);
    const isWhole = (place !== undefined || name.startsWith('google/protobuf/')) && imports.every(isComplete);
    known.set(name, isWhole);
    return isWhole;
  };
  return names.filter((name) => /^envoy\/(config|extensions|type)\/.*\/v3\/.*\.proto$/.test(name)).filter(isComplete);
}

function load(): protobuf.Root {
  const root = new protobuf.Root();
  root.resolvePath = (_, target) => placeOf(target) ?? target;
  root.loadSync(files(), { keepCase: true });
  root.resolveAll();
  return root;
}

let loaded: protobuf.Root | undefined;

/** Returns what is wrong with a bootstrap, with its place; empty when nothing is. */
export function envoyFaults(bootstrap: unknown): string[] {
  loaded ??= load();
  const faults: string[] = [];
  checkMessage(loaded, loaded.lookupType('envoy.config.bootstrap.v3.Bootstrap'), bootstrap, '', faults);
  return faults;
}

function checkMessage(root: protobuf.Root, type: protobuf.Type, value: unknown, path: string, faults: string[]): void {
  const name = type.fullName.slice(1);
  if (name === 'google.protobuf.Duration') {
    if (typeof value !== 'string' || !/^\d+(\.\d{1,9})?s$/.test(value)) faults.push(`${path}: no duration: ${value}`);
    return;
  }
  // Any object.
  if (name === 'google.protobuf.Struct' && typeof value === 'object') return;
  const wrapped = /^google\.protobuf\.(\w+)Value$/.exec(name)?.[1];
  if (wrapped !== undefined) {
    checkScalar(wrapped.toLowerCase(), value, path, faults);
    return;
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    faults.push(`${path}: ${name} must be an object`);
    return;
  }
  if (name === 'google.protobuf.Any') {
    const { '@type': url, ...rest } = value as Record<string, unknown>;
    const inner = root.lookup(String(url).replace('type.googleapis.com/', '.')) as protobuf.Type | null;
    if (inner === null) faults.push(`${path}: no message ${url}`);
    else checkMessage(root, inner, rest, path, faults);
    return;
  }
  const used = new Set<string>();
  for (const [key, own] of Object.entries(value)) {
    const field = type.fields[key];
    if (field === undefined) {
      faults.push(`${path}.${key}: ${name} has no such field`);
      continue;
    }
    if (field.partOf !== null && used.has(field.partOf.name))
      faults.push(`${path}.${key}: one of ${field.partOf.name} is there`);
    if (field.partOf !== null) used.add(field.partOf.name);
    checkField(root, field, own, `${path}.${key}`, faults);
  }
}

function checkField(root: protobuf.Root, field: protobuf.Field, value: unknown, path: string, faults: string[]): void {
  const one = (own: unknown, at: string) => {
    const { resolvedType } = field;
    if (resolvedType instanceof protobuf.Enum) {
      if (!Object.hasOwn(resolvedType.values, String(own))) faults.push(`${at}: ${resolvedType.name} has no ${own}`);
    } else if (resolvedType instanceof protobuf.Type) checkMessage(root, resolvedType, own, at, faults);
    else checkScalar(field.type, own, at, faults);
  };
  if (field instanceof protobuf.MapField) {
    for (const [key, own] of Object.entries(value as object)) one(own, `${path}[${key}]`);
  } else if (!field.repeated) one(value, path);
  else if (!Array.isArray(value)) faults.push(`${path}: must be a list`);
  else for (const [index, own] of value.entries()) one(own, `${path}[${index}]`);
}

function checkScalar(type: string, value: unknown, path: string, faults: string[]): void {
  const kind = type === 'bool' ? 'boolean' : type === 'string' || type === 'bytes' ? 'string' : 'number';
  if (typeof value !== kind) faults.push(`${path}: must be a ${kind}, and is ${JSON.stringify(value)}`);
  else if (/^u?int|^uint/.test(type) && !Number.isInteger(value)) faults.push(`${path}: must be an integer`);
}
