import { fileURLToPath } from 'node:url';
import type { NodeReport } from '../../../dist/server/index.js';
import { freePort, type Host } from './hosts.js';
import { type Program, startProgram, until } from './programs.js';

export const CLI = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));

export interface NodeSettings {
  readonly models: string;
  /** More flags of `infermux serve`. */
  readonly flags?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

/** A node: a process of `infermux serve` on a host. It keeps its ports when it is started again. */
export class Node {
  readonly host: Host;
  readonly http: string;
  readonly grpc: string;
  readonly #settings: NodeSettings;
  #program: Program | undefined;

  private constructor(host: Host, http: string, grpc: string, settings: NodeSettings) {
    this.host = host;
    this.http = http;
    this.grpc = grpc;
    this.#settings = settings;
  }

  static async start(host: Host, settings: NodeSettings): Promise<Node> {
    const [http, grpc] = host.isOwn ? [8_000, 8_001] : [await freePort(), await freePort()];
    const node = new Node(host, `${host.address}:${http}`, `${host.address}:${grpc}`, settings);
    await node.start();
    return node;
  }

  async start(): Promise<void> {
    const [host, port] = this.http.split(':') as [string, string];
    const grpcPort = this.grpc.split(':')[1] as string;
    const { models, flags = [], env = {} } = this.#settings;
    const own = [
      'serve',
      models,
      '--host',
      host,
      '--http-port',
      port,
      '--grpc-port',
      grpcPort,
      '--replicas',
      '1',
      '--node-name',
      this.http,
      ...flags,
    ];
    this.#program = startProgram([...this.host.prefix, process.execPath, CLI, ...own], { env });
    await until(async () => {
      if ((await this.health()) === 200) return true;
      const ended = await Promise.race([this.program.exited, undefined]);
      if (ended !== undefined) throw new Error(`a node ended with ${ended}: ${this.program.output()}`);
      return false;
    }, `the node ${this.http}`);
  }

  get program(): Program {
    return this.#program as Program;
  }

  async health(): Promise<number> {
    try {
      return (await fetch(`http://${this.http}/v2/health/ready`, { signal: AbortSignal.timeout(1_000) })).status;
    } catch {
      return 0;
    }
  }

  async report(): Promise<NodeReport> {
    return (await (await fetch(`http://${this.http}/v2/node`)).json()) as NodeReport;
  }

  /** Sum of the samples of a metric. */
  async metric(name: string): Promise<number> {
    const text = await (await fetch(`http://${this.http}/metrics`)).text();
    const values = [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))].map(([, value]) =>
      Number(value),
    );
    return values.reduce((sum, value) => sum + value, 0);
  }

  async stop(): Promise<void> {
    this.program.kill('SIGTERM');
    await this.program.exited;
  }

  async kill(): Promise<void> {
    this.program.kill('SIGKILL');
    await this.program.exited;
  }
}
