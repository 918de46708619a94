import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createNetwork, type Network } from '../../test/support/cluster/hosts.js';
import { type Answer, failuresOf, type Input, quantile } from '../../test/support/cluster/load.js';
import { Node, type NodeSettings } from '../../test/support/cluster/nodes.js';
import { directory } from '../../test/support/directories.js';

const MODEL = fileURLToPath(new URL('../../native-models/digits-mlp/model.onnx', import.meta.url));

/** A digit, which all the models take. */
export const DIGIT: Input = {
  name: 'image',
  shape: [1, 64],
  data: Array.from({ length: 64 }, (_, index) => index % 16),
};

export const modelNames = (count: number) => Array.from({ length: count }, (_, index) => `m${index + 1}`);

/** Returns a directory with so many models, which are the same one under other names. */
export function modelsDirectory(count: number): string {
  const root = directory();
  for (const name of modelNames(count)) {
    mkdirSync(join(root, name, '1'), { recursive: true });
    copyFileSync(MODEL, join(root, name, '1', 'model.onnx'));
  }
  return root;
}

/** Uniform in [0, 1), and the same in each run: mulberry32. */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Draws models by Zipf's law: the model of rank r has the weight r^-exponent. */
export function zipf(models: readonly string[], exponent: number, random: () => number): () => string {
  const sums: number[] = [];
  let sum = 0;
  for (let rank = 1; rank <= models.length; rank += 1) {
    sum += rank ** -exponent;
    sums.push(sum);
  }
  return () => {
    const drawn = random() * sum;
    const at = sums.findIndex((each) => each > drawn);
    return models[at] ?? (models.at(-1) as string);
  };
}

/** Ends a load after so many requests. */
export function first<T>(count: number, next: () => T): () => T | undefined {
  let drawn = 0;
  return () => {
    drawn += 1;
    return drawn <= count ? next() : undefined;
  };
}

/** Nodes on hosts of their own. */
export interface Cluster {
  readonly network: Network;
  readonly nodes: readonly Node[];
  close(): Promise<void>;
}

export async function startCluster(count: number, settings: NodeSettings, spare = 0): Promise<Cluster> {
  const network = createNetwork(count + spare);
  const hosts = network.hosts.slice(0, count);
  try {
    const nodes = await Promise.all(hosts.map((host) => Node.start(host, settings)));
    const close = async () => {
      await Promise.all(nodes.map((node) => node.stop()));
      network.remove();
    };
    return { network, nodes, close };
  } catch (error) {
    network.remove();
    throw error;
  }
}

/** What a load shows. */
export interface Outcome {
  readonly answers: number;
  readonly failed: number;
  /** The first failure, for the reader. */
  readonly failure: string | undefined;
  readonly p99Ms: number;
}

export function outcomeOf(answers: readonly Answer[]): Outcome {
  const failures = failuresOf(answers);
  return {
    answers: answers.length,
    failed: failures.length,
    failure: failures[0]?.failure,
    p99Ms: quantile(answers, 0.99),
  };
}
