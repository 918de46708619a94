import { hostname } from 'node:os';
import type { InferenceEngine } from '../../index.js';
import type { Admission } from '../inference/admission.js';
import { SERVER_NAME } from '../inference/server-metadata.js';
import { LoadMeter, type NodeLoad } from './node-load.js';

/** A model as a node serves it. */
export interface NodeModel {
  readonly name: string;
  /** The versions that are served, in ascending order, with the bytes of their files. */
  readonly versions: readonly { readonly version: number; readonly bytes: number }[];
  /** The version for requests that name none; undefined if none is served. */
  readonly current: number | undefined;
  /** The versions that a replica has loaded. */
  readonly loaded: readonly number[];
  /** Why its current files are not served; undefined when they are. */
  readonly problem?: string | undefined;
}

/** The report of a node. */
export interface NodeReport {
  readonly node: string;
  readonly server: string;
  readonly version: string;
  readonly ready: boolean;
  readonly draining: boolean;
  readonly uptimeSeconds: number;
  readonly replicas: { readonly running: number; readonly target: number };
  readonly load: NodeLoad;
  readonly models: readonly NodeModel[];
}

/** This server as one of several. */
export class ThisNode {
  readonly load: LoadMeter;
  /** Its name among the nodes, which each answer has. */
  name: string;
  readonly #engine: InferenceEngine;
  readonly #began = performance.now();

  constructor(engine: InferenceEngine, admission: Admission, name: string | undefined) {
    this.#engine = engine;
    this.name = name ?? hostname();
    this.load = new LoadMeter(engine, admission);
  }

  report(isReady: boolean, isDraining: boolean): NodeReport {
    const { deployments } = this.#engine.status();
    const sum = (count: (deployment: (typeof deployments)[string]) => number) =>
      Object.values(deployments).reduce((total, deployment) => total + count(deployment), 0);
    return {
      node: this.name,
      server: SERVER_NAME.name,
      version: SERVER_NAME.version,
      ready: isReady,
      draining: isDraining,
      uptimeSeconds: Math.round((performance.now() - this.#began) / 1_000),
      replicas: {
        running: sum(({ runningReplicas }) => runningReplicas),
        target: sum(({ targetReplicas }) => targetReplicas),
      },
      load: this.load.read(),
      models: this.#models(),
    };
  }

  #models(): NodeModel[] {
    const models = new Map<string, NodeModel>();
    for (const report of this.#engine.models.list()) {
      const { id, version, bytes, isDefault, replicas, problem } = report;
      const known = models.get(id);
      const isLoaded = replicas.some(({ state }) => state === 'loaded');
      models.set(id, {
        name: id,
        versions: [...(known?.versions ?? []), ...(version === undefined ? [] : [{ version, bytes }])].sort(
          (left, right) => left.version - right.version,
        ),
        current: isDefault ? version : known?.current,
        loaded: [...(known?.loaded ?? []), ...(isLoaded && version !== undefined ? [version] : [])].sort(
          (left, right) => left - right,
        ),
        ...(problem === undefined && known?.problem === undefined ? {} : { problem: problem ?? known?.problem }),
      });
    }
    return [...models.values()];
  }
}
