import { accessSync, constants, readFileSync, statfsSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { dirname } from 'node:path';
import { getHeapStatistics } from 'node:v8';
import { createEngine } from '../../index.js';
import { type Answer, ModelProcess } from '../children/model-process.js';
import { messageOf } from '../terminal/printable.js';
import { coreQuota } from './core-quota.js';

/** What `infermux doctor` finds out about this machine. Memory in bytes; undefined is not known here. */
export interface Facts {
  readonly node: string;
  readonly platform: string;
  /** Undefined where the C library is another one, such as musl. */
  readonly glibc: string | undefined;
  /** The version of onnxruntime-node, or why it cannot be found. */
  readonly onnxruntime: Found;
  /** Whether the application's own onnxruntime-node is another copy than the one that infermux uses. */
  readonly hasTwoRuntimes: boolean;
  readonly providers: readonly ProviderFact[];
  readonly processor: string;
  readonly features: readonly string[];
  /** Cores that the system gives this process. */
  readonly cores: number;
  /** Cores that its control group lets it use at a time. */
  readonly coreQuota: number | undefined;
  readonly memory: {
    readonly total: number;
    readonly free: number;
    readonly limit: number | undefined;
    readonly heap: number;
  };
  readonly openFiles: number | undefined;
  readonly weightStore: {
    readonly directory: string;
    readonly problem: string | undefined;
    readonly freeBytes: number | undefined;
  };
  readonly mallocThreshold: string | undefined;
}

export type Found = { readonly version: string } | { readonly problem: string };

export interface ProviderFact {
  readonly name: string;
  /** Why a model does not run there; undefined if it does. */
  readonly problem: string | undefined;
}

/** Providers to try, by platform. */
const PROVIDERS: Readonly<Record<string, readonly string[]>> = {
  linux: ['cpu', 'cuda', 'tensorrt', 'webgpu'],
  darwin: ['cpu', 'coreml', 'webgpu'],
  win32: ['cpu', 'dml', 'webgpu'],
};
/** For a load or a run of a small model; the first use of a GPU takes its time. */
const PROVIDER_SECONDS = 60;
/** What makes onnxruntime's kernels fast. */
const FEATURES = [
  'avx',
  'avx2',
  'fma',
  'avx512f',
  'avx512_vnni',
  'avx_vnni',
  'avx512_bf16',
  'amx_int8',
  'asimd',
  'asimddp',
  'i8mm',
  'bf16',
];

/** @param progress is told after each provider. */
export async function gatherFacts(progress: (done: number, total: number) => void): Promise<Facts> {
  const onnxruntime = runtimeAt(import.meta.url);
  const own = runtimeAt(`file://${process.cwd()}/`);
  return {
    node: process.versions.node,
    platform: `${process.platform} ${process.arch}`,
    glibc: glibcVersion(),
    onnxruntime: onnxruntime.found,
    hasTwoRuntimes: own.path !== undefined && onnxruntime.path !== undefined && own.path !== onnxruntime.path,
    providers: 'problem' in onnxruntime.found ? [] : await tryProviders(progress),
    processor: cpus()[0]?.model ?? 'unknown',
    features: processorFeatures(),
    cores: availableParallelism(),
    coreQuota: coreQuota(textOf),
    memory: {
      total: totalmem(),
      free: freemem(),
      // 0, or more than there is, when there is no limit.
      limit:
        process.constrainedMemory() > 0 && process.constrainedMemory() < totalmem()
          ? process.constrainedMemory()
          : undefined,
      heap: getHeapStatistics().heap_size_limit,
    },
    openFiles: Number(/^Max open files +(\d+)/m.exec(textOf('/proc/self/limits'))?.[1]) || undefined,
    weightStore: await weightStore(),
    mallocThreshold: process.env['MALLOC_MMAP_THRESHOLD_'],
  };
}

function runtimeAt(from: string): { readonly found: Found; readonly path?: string } {
  try {
    const require = createRequire(from);
    const path = require.resolve('onnxruntime-node/package.json');
    return { found: { version: (require(path) as { version: string }).version }, path };
  } catch (cause) {
    return { found: { problem: messageOf(cause) } };
  }
}

function glibcVersion(): string | undefined {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  return header.glibcVersionRuntime;
}

/** Each in a process of its own: a provider without a driver may end its process. */
async function tryProviders(progress: (done: number, total: number) => void): Promise<ProviderFact[]> {
  const names = PROVIDERS[process.platform] ?? ['cpu'];
  const facts: ProviderFact[] = [];
  for (const name of names) {
    progress(facts.length, names.length);
    const child = new ModelProcess({ timeoutSeconds: PROVIDER_SECONDS });
    const answer = await child.ask('provider', { provider: name }).finally(() => child.close());
    facts.push({ name, problem: problemOf(answer) });
  }
  progress(names.length, names.length);
  return facts;
}

/** One line: the model is always the same, and the providers that there are stand beside it. */
function problemOf(answer: Answer<undefined>): string | undefined {
  if (answer.kind === 'result') return undefined;
  if (answer.kind === 'death') return `its process ${answer.reason}`;
  return messageOf(answer.error)
    .replace(/^model "[^"]*": /, '')
    .replace(/ \(execution providers asked for.*$/, '');
}

function processorFeatures(): string[] {
  const flags = new Set(/^(?:flags|Features)\s*:(.*)$/m.exec(textOf('/proc/cpuinfo'))?.[1]?.trim().split(' '));
  return FEATURES.filter((name) => flags.has(name));
}

/** Where an engine keeps compiled models by default, and whether it can. */
async function weightStore(): Promise<Facts['weightStore']> {
  const engine = await createEngine({ replicas: 0 });
  const { directory } = engine.status().weightStore;
  await engine.close();
  try {
    const place = existing(directory);
    accessSync(place, constants.W_OK);
    const { bavail, bsize } = statfsSync(place);
    return { directory, problem: undefined, freeBytes: bavail * bsize };
  } catch (cause) {
    return { directory, problem: messageOf(cause), freeBytes: undefined };
  }
}

/** The directory, or the nearest one above it that is there: the store is made when it is needed. */
function existing(directory: string): string {
  try {
    if (statSync(directory).isDirectory()) return directory;
  } catch (cause) {
    const above = dirname(directory);
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT' && above !== directory) return existing(above);
    throw cause;
  }
  throw new Error(`${directory} is no directory`);
}

/** The text of a file of the system; empty where there is none. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
