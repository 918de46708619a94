import { type Command, InvalidArgumentError } from 'commander';
import type { Address } from '../../cluster/addresses.js';
import { messageOf } from '../terminal/printable.js';

/** Commands for several nodes. */
export function addClusterCommands(program: Command): void {
  const cluster = program.command('cluster').description('Run several nodes behind a proxy.').exitOverride();
  const config = cluster
    .command('config')
    .description('Print a complete configuration of a proxy, with each line explained.')
    .exitOverride();
  addConfig(config, 'haproxy', 'HAProxy, 2.6 or later.');
}

interface ConfigFlags {
  readonly nodes: string;
  readonly grpc?: string;
  readonly bind: string;
  readonly bindGrpc: string;
}

function addConfig(config: Command, name: 'haproxy', description: string): void {
  config
    .command(name)
    .description(description)
    .requiredOption('--nodes <list>', 'REST addresses of the nodes, like 10.0.0.1:8000,10.0.0.2:8000')
    .option('--grpc <list>', 'their gRPC addresses, in the same order')
    .option('--bind <address>', 'where the proxy listens for REST', '0.0.0.0:8000')
    .option('--bind-grpc <address>', 'where the proxy listens for gRPC, with --grpc', '0.0.0.0:8001')
    .exitOverride()
    .action(async (flags: ConfigFlags) => {
      const { haproxyConfig } = await import('../../cluster/proxies/haproxy.js');
      process.stdout.write(haproxyConfig(await settingsOf(flags)));
    });
}

async function settingsOf({ nodes, grpc, bind, bindGrpc }: ConfigFlags) {
  const { parseAddress, parseAddresses } = await import('../../cluster/addresses.js');
  const { pairNodes } = await import('../../cluster/proxies/proxied-nodes.js');
  const read = <T>(flag: string, text: string, parse: (text: string) => T): T => {
    try {
      return parse(text);
    } catch (cause) {
      throw new InvalidArgumentError(`${flag}: ${messageOf(cause)}`);
    }
  };
  const http: Address[] = read('--nodes', nodes, parseAddresses);
  const paired = pairNodes(http, grpc === undefined ? undefined : read('--grpc', grpc, parseAddresses));
  return {
    nodes: paired,
    bind: read('--bind', bind, parseAddress),
    bindGrpc: grpc === undefined ? undefined : read('--bind-grpc', bindGrpc, parseAddress),
  };
}
