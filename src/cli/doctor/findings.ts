import type { Facts, ProviderFact } from './facts.js';

/** What a fact means: all is well, it is worth knowing, it should be changed, or infermux cannot work. */
export type Verdict = 'ok' | 'note' | 'warning' | 'problem';

/** One line of the report. */
export interface Finding {
  readonly verdict: Verdict;
  readonly what: string;
  readonly found: string;
  /** What to do; undefined if nothing is to be done. */
  readonly advice?: string;
}

const LEAST_NODE = [20, 19] as const;
const TESTED_NODES = [20, 22, 24];
const LEAST_RUNTIME = [1, 30] as const;
/** Memory that a replica takes with a small model, and what is left for the application. */
const LEAST_MEMORY = 512 * 2 ** 20;
const LEAST_STORE = 2 ** 30;
/** Each connection of a server is an open file. */
const LEAST_OPEN_FILES = 4_096;
const NO_DRIVER: Readonly<Record<string, string>> = {
  cuda: 'for NVIDIA GPUs, install the driver, and CUDA and cuDNN in the versions that the documentation of onnxruntime lists; then run ONNXRUNTIME_NODE_INSTALL=cuda12 npm rebuild onnxruntime-node --ignore-scripts=false',
  tensorrt: 'the same as for cuda, and TensorRT',
  webgpu: 'install a Vulkan driver (on Debian libvulkan1 and mesa-vulkan-drivers, or that of the GPU)',
};

/** Judges what was found. */
export function findingsOf(facts: Facts): Finding[] {
  return [
    nodeFinding(facts.node),
    ...libraryFinding(facts),
    runtimeFinding(facts),
    ...facts.providers.map(providerFinding),
    featureFinding(facts),
    coreFinding(facts),
    memoryFinding(facts),
    storeFinding(facts),
    ...limitFindings(facts),
  ];
}

function nodeFinding(version: string): Finding {
  const [major = 0] = numbersOf(version);
  const what = 'Node.js';
  if (!isAtLeast(version, LEAST_NODE)) {
    return { verdict: 'problem', what, found: version, advice: `install Node.js ${LEAST_NODE.join('.')} or later` };
  }
  if (TESTED_NODES.includes(major)) return { verdict: 'ok', what, found: version };
  return { verdict: 'note', what, found: version, advice: `infermux is tested on ${TESTED_NODES.join(', ')}` };
}

function libraryFinding({ platform, glibc }: Facts): Finding[] {
  if (!platform.startsWith('linux')) return [];
  if (glibc !== undefined) return [{ verdict: 'ok', what: 'C library', found: `glibc ${glibc}` }];
  const advice = 'onnxruntime-node needs glibc: use an image of Debian or Ubuntu (node:22-slim) instead of Alpine';
  return [{ verdict: 'problem', what: 'C library', found: 'not glibc', advice }];
}

function runtimeFinding({ onnxruntime, hasTwoRuntimes }: Facts): Finding {
  const what = 'onnxruntime-node';
  if ('problem' in onnxruntime) {
    return { verdict: 'problem', what, found: onnxruntime.problem, advice: 'npm install onnxruntime-node' };
  }
  const { version } = onnxruntime;
  if (!isAtLeast(version, LEAST_RUNTIME)) {
    const advice = `npm install onnxruntime-node@^${LEAST_RUNTIME.join('.')}`;
    return { verdict: 'problem', what, found: version, advice };
  }
  if (!hasTwoRuntimes) return { verdict: 'ok', what, found: version };
  const advice = 'infermux and the application use two copies: npm dedupe saves memory, and they have the same version';
  return { verdict: 'warning', what, found: `${version}, installed twice`, advice };
}

function providerFinding({ name, problem }: ProviderFact): Finding {
  const what = `provider ${name}`;
  if (problem === undefined) return { verdict: 'ok', what, found: 'runs a model' };
  if (name === 'cpu') {
    const advice = 'no model runs here: install onnxruntime-node again, for this platform and version of Node.js';
    return { verdict: 'problem', what, found: problem, advice };
  }
  const advice = NO_DRIVER[name];
  return { verdict: 'note', what, found: `not available: ${problem}`, ...(advice !== undefined && { advice }) };
}

function featureFinding({ processor, features, platform }: Facts): Finding {
  const what = 'processor';
  const found = `${processor.trim()}${features.length === 0 ? '' : `: ${features.join(', ')}`}`;
  const isOld = platform === 'linux x64' && !features.includes('avx2');
  if (!isOld) return { verdict: 'ok', what, found };
  return {
    verdict: 'warning',
    what,
    found,
    advice: 'without AVX2 models run several times slower: use another machine type',
  };
}

function coreFinding({ cores, coreQuota }: Facts): Finding {
  const what = 'cores';
  if (coreQuota === undefined || coreQuota >= cores) return { verdict: 'ok', what, found: String(cores) };
  const found = `${cores}, of which the container may use ${Number(coreQuota.toFixed(2))} at a time`;
  const whole = Math.max(1, Math.floor(coreQuota));
  const advice = `threads are stopped when the quota is used up: set replicas: ${whole}, or a quota of whole cores with pinning`;
  return { verdict: 'warning', what, found, advice };
}

function memoryFinding({ memory: { total, free, limit, heap } }: Facts): Finding {
  const what = 'memory';
  const bound = limit ?? total;
  const found = `${size(bound)}${limit === undefined ? '' : ' for the container'}, ${size(Math.min(free, bound))} free, at most ${size(heap)} of JavaScript heap`;
  if (bound < LEAST_MEMORY) {
    const advice = `a replica with a small model takes about 60 MB in addition to the application: allow ${size(LEAST_MEMORY)} or more`;
    return { verdict: 'warning', what, found, advice };
  }
  if (heap <= bound) return { verdict: 'ok', what, found };
  const advice = `the heap may grow beyond the memory: start node with --max-old-space-size=${Math.floor(bound / 2 ** 21)}`;
  return { verdict: 'warning', what, found, advice };
}

function storeFinding({ weightStore: { directory, problem, freeBytes } }: Facts): Finding {
  const what = 'weight store';
  if (problem !== undefined) {
    const advice =
      'set weightStore.directory (XDG_CACHE_HOME moves it too): without it each replica keeps its own copy of the weights';
    return { verdict: 'warning', what, found: `${directory}: ${problem}`, advice };
  }
  const found = `${directory}, ${freeBytes === undefined ? 'space not known' : `${size(freeBytes)} free`}`;
  if (freeBytes === undefined || freeBytes >= LEAST_STORE) return { verdict: 'ok', what, found };
  return {
    verdict: 'warning',
    what,
    found,
    advice: 'there may not be enough space for large models: set weightStore.directory',
  };
}

function limitFindings({ openFiles, mallocThreshold, platform }: Facts): Finding[] {
  const findings: Finding[] = [];
  if (openFiles !== undefined && openFiles < LEAST_OPEN_FILES) {
    const advice = `a server needs one for each connection: ulimit -n ${4 * LEAST_OPEN_FILES}`;
    findings.push({ verdict: 'note', what: 'open files', found: `at most ${openFiles}`, advice });
  }
  if (platform.startsWith('linux') && mallocThreshold === undefined) {
    const advice =
      'to return freed memory to the system, set the environment variable MALLOC_MMAP_THRESHOLD_=1048576; models with outputs of several MB become slower';
    findings.push({
      verdict: 'note',
      what: 'malloc',
      found: 'glibc may keep 32 MB of freed memory per thread',
      advice,
    });
  }
  return findings;
}

function isAtLeast(version: string, least: readonly [number, number]): boolean {
  const [major = 0, minor = 0] = numbersOf(version);
  return major > least[0] || (major === least[0] && minor >= least[1]);
}

function numbersOf(version: string): number[] {
  return version.split('.').map(Number);
}

function size(bytes: number): string {
  return bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GB` : `${Math.round(bytes / 2 ** 20)} MB`;
}
