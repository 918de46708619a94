import type { Command } from 'commander';
import type { Address } from '../../cluster/addresses.js';
import { endingSoon } from '../ending-soon.js';
import { parseCount, parsePath } from '../flags.js';
import { FAILED, print, WRONG_USAGE } from '../terminal/print.js';
import { messageOf, quoted } from '../terminal/printable.js';

const NODES = '--nodes <list>';
/** Paths of sockets are no longer. HAProxy adds some characters while it starts. */
const MOST_SOCKET = 90;

/** Commands for several nodes. */
export function addClusterCommands(program: Command): void {
  const cluster = program
    .command('cluster')
    .description('Configure a proxy for several nodes, and show their state.')
    .exitOverride();
  const config = cluster
    .command('config')
    .description('Print a complete, commented configuration for a proxy.')
    .exitOverride();
  addHaproxy(config);
  addEnvoy(config);
  addStatus(cluster);
}

interface ConfigFlags {
  readonly nodes?: string;
  readonly grpc?: string;
  readonly bind: string;
  readonly bindGrpc: string;
  readonly nodeCa?: string;
}

interface HaproxyFlags extends ConfigFlags {
  readonly nats?: string;
  readonly socket: string;
  readonly slots: number;
  readonly once?: true;
}

const withAddresses = (command: Command) =>
  command
    .option(NODES, 'REST addresses of the nodes, for example 10.0.0.1:8000,10.0.0.2:8000')
    .option('--grpc <list>', 'their gRPC addresses, in the same order')
    .option('--bind <address>', 'address on which the proxy listens for REST', '0.0.0.0:8000')
    .option('--bind-grpc <address>', 'address on which the proxy listens for gRPC', '0.0.0.0:8001')
    .option(
      '--node-ca <file>',
      'the nodes use TLS, and this CA signed their certificates: a path on the machine of the proxy',
    );

function addHaproxy(config: Command): void {
  withAddresses(config.command('haproxy').description('Print a configuration for HAProxy 2.6 or later.'))
    .option(
      '--nats <url>',
      'find the nodes through NATS instead of --nodes; the command keeps running and updates HAProxy through --socket (env: INFERMUX_NATS)',
    )
    .option('--socket <path>', "HAProxy's runtime socket, with --nats", '/run/haproxy/infermux.sock')
    .option('--slots <count>', 'maximum number of nodes, with --nats', parseCount, 32)
    .option('--once', 'with --nats: print the configuration, and exit')
    .exitOverride()
    .action(async (given: HaproxyFlags, command: Command) => {
      const flags = withNats(given);
      const { haproxyConfig } = await import('../../cluster/proxies/haproxy.js');
      if ((flags.nats === undefined) === (flags.nodes === undefined)) {
        command.error('error: give either --nodes or --nats', { exitCode: WRONG_USAGE });
      }
      if (flags.nats === undefined) {
        for (const name of ['socket', 'slots', 'once']) unused(command, name, '--nats');
        process.stdout.write(haproxyConfig(await settingsOf(command, flags)));
        return;
      }
      const { socket, slots, nats } = flags;
      checkPath(command, '--socket', socket);
      if (socket.length > MOST_SOCKET) {
        const message = `error: --socket must have at most ${MOST_SOCKET} characters, got ${socket.length}`;
        command.error(message, { exitCode: WRONG_USAGE });
      }
      unused(command, 'grpc', '--nodes');
      const { MOST_SLOTS } = await import('../../cluster/membership/bucket.js');
      if (slots > MOST_SLOTS) {
        command.error(`error: --slots must be at most ${MOST_SLOTS}, got ${slots}`, { exitCode: WRONG_USAGE });
      }
      const settings = {
        nodes: [],
        bind: await readFlag(command, '--bind', flags.bind),
        bindGrpc: await readFlag(command, '--bind-grpc', flags.bindGrpc),
        nodeCa: nodeCaOf(command, flags),
      };
      process.stdout.write(haproxyConfig(settings, { socket, slots }));
      if (flags.once === true) return;
      const { followHaproxy } = await import('./follow-haproxy.js');
      await endingSoon(() => followHaproxy(nats, socket, settings.nodeCa !== undefined));
    });
}

function addEnvoy(config: Command): void {
  withAddresses(config.command('envoy').description('Print a configuration for Envoy (API v3).'))
    .exitOverride()
    .action(async (flags: ConfigFlags, command: Command) => {
      if (flags.nodes === undefined) command.error('error: give the nodes with --nodes', { exitCode: WRONG_USAGE });
      const { envoyConfig } = await import('../../cluster/proxies/envoy.js');
      process.stdout.write(envoyConfig(await settingsOf(command, flags)));
    });
}

/** The environment may name the server of NATS. A list of nodes goes before it. */
function withNats<T extends { readonly nats?: string; readonly nodes?: string }>(flags: T): T {
  const own = process.env['INFERMUX_NATS'] ?? '';
  return flags.nats !== undefined || flags.nodes !== undefined || own === '' ? flags : { ...flags, nats: own };
}

/** Complains about an option that is given and would do nothing. */
function unused(command: Command, name: string, needed: string): void {
  if (command.getOptionValueSource(name) !== 'cli') return;
  const flag = command.options.find((option) => option.attributeName() === name)?.long;
  command.error(`error: ${flag} needs ${needed}`, { exitCode: WRONG_USAGE });
}

async function settingsOf(command: Command, flags: ConfigFlags) {
  const { nodes = '', grpc, bind, bindGrpc } = flags;
  if (grpc === undefined) unused(command, 'bindGrpc', '--grpc');
  const { parseAddresses } = await import('../../cluster/addresses.js');
  const { pairNodes } = await import('../../cluster/proxies/proxied-nodes.js');
  const http: Address[] = reading(command, '--nodes', () => parseAddresses(nodes));
  const paired = pairNodes(
    http,
    grpc === undefined ? undefined : reading(command, '--grpc', () => parseAddresses(grpc)),
  );
  return {
    nodes: paired,
    bind: await readFlag(command, '--bind', bind),
    bindGrpc: grpc === undefined ? undefined : await readFlag(command, '--bind-grpc', bindGrpc),
    nodeCa: nodeCaOf(command, flags),
  };
}

function nodeCaOf(command: Command, { nodeCa }: ConfigFlags): string | undefined {
  if (nodeCa !== undefined) checkPath(command, '--node-ca', nodeCa);
  return nodeCa;
}

/** Paths stand in configurations without quotes, and are read by programs that run elsewhere. */
function checkPath(command: Command, flag: string, path: string): void {
  if (/^\/[\w./-]+$/.test(path)) return;
  const message = `error: ${flag} must be an absolute path without spaces, got ${quoted(path)}`;
  command.error(message, { exitCode: WRONG_USAGE });
}

async function readFlag(command: Command, flag: string, text: string): Promise<Address> {
  const { parseAddress } = await import('../../cluster/addresses.js');
  return reading(command, flag, () => parseAddress(text));
}

function reading<T>(command: Command, flag: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    return command.error(`error: ${flag}: ${messageOf(cause)}`, { exitCode: WRONG_USAGE });
  }
}

interface StatusFlags {
  readonly nodes?: string;
  readonly nats?: string;
  readonly apiKeys?: string;
  readonly json?: true;
}

function addStatus(cluster: Command): void {
  cluster
    .command('status')
    .description(
      'Show the nodes, which models they have loaded, and how they differ. The exit code is 1 if they differ.',
    )
    .option(NODES, 'REST addresses of the nodes, for example 10.0.0.1:8000,https://node-2:8000')
    .option('--nats <url>', 'find the nodes through NATS instead of --nodes (env: INFERMUX_NATS)')
    .option('--api-keys <file>', 'a file whose first line is a key of the nodes', parsePath)
    .option('--json', 'print one JSON object instead of tables')
    .exitOverride()
    .action(async (given: StatusFlags, command: Command) => {
      const { nodes, nats, apiKeys, json } = withNats(given);
      if ((nats === undefined) === (nodes === undefined)) {
        command.error('error: give either --nodes or --nats', { exitCode: WRONG_USAGE });
      }
      const { clusterStatus } = await import('./cluster-status.js');
      const { statusTables } = await import('./status-tables.js');
      const ask = () => clusterStatus({ nodes, nats, apiKeys });
      const report = await (nats === undefined ? ask() : endingSoon(ask));
      print(json, report, statusTables);
      if (report.differences.length > 0) process.exitCode = FAILED;
    });
}
