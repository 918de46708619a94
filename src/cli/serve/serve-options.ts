import { Option } from 'commander';
import type { ListenOptions } from '../../server/server-options.js';
import { parseAdmin, parseCount, parseDelay, parsePort } from '../flags.js';

/** Values of the flags of `infermux serve`, from the command line or from the environment. */
export interface ServeFlags {
  readonly models?: string;
  readonly config?: string;
  readonly printConfig?: true;
  readonly modelName?: string;
  readonly nodeName?: string;
  readonly host?: string;
  readonly httpPort?: number;
  readonly grpcPort?: number;
  readonly http?: false;
  readonly grpc?: false;
  readonly admin?: boolean | ListenOptions;
  readonly console?: false;
  readonly replicas?: number;
  readonly isolation?: 'thread' | 'process';
  readonly maxModels?: number;
  readonly loadOnStart?: true;
  readonly poll?: number;
  readonly apiKeys?: string;
  readonly adminKeys?: string;
  readonly tlsKey?: string;
  readonly tlsCert?: string;
  readonly tlsCa?: string;
  readonly cors?: string;
  readonly maxBody?: number;
  readonly tritonMetrics?: true;
  readonly logLevel?: string;
  readonly logRequests?: true;
  readonly drainDelay?: number;
  readonly grace?: number;
  readonly nats?: string;
  readonly advertise?: string;
}

/** Levels of the log. */
export const LOG_LEVELS = ['silent', 'error', 'warn', 'info', 'debug'];

const flag = (flags: string, description: string) => new Option(flags, description);

/** The flags. Each that has a variable of the environment says so in the help. */
export const SERVE_OPTIONS: readonly Option[] = [
  flag('--config <file>', 'a file with { engine, server }: .json, .js, .mjs or .ts').env('INFERMUX_CONFIG'),
  flag('--print-config', 'print the options of engine and server, and exit'),
  flag('--model-name <name>', 'an additional name for the model, if there is only one').env('INFERMUX_MODEL_NAME'),
  flag(
    '--node-name <name>',
    'name of this node in the headers of answers (default: host name of the machine and port of REST)',
  ).env('INFERMUX_NODE_NAME'),
  flag('--host <address>', 'address to listen on (default: 127.0.0.1; 0.0.0.0 for all)').env('INFERMUX_HOST'),
  flag('--http-port <port>', 'port of REST (default: 8000; 0 for any free port)')
    .env('INFERMUX_HTTP_PORT')
    .argParser(parsePort),
  flag('--grpc-port <port>', 'port of gRPC (default: 8001; 0 for any free port)')
    .env('INFERMUX_GRPC_PORT')
    .argParser(parsePort),
  flag('--no-http', 'turn off REST'),
  flag('--no-grpc', 'turn off gRPC'),
  flag(
    '--admin [address]',
    'allow requests that load, unload and add models, on the same ports or on host:port (default: on the same ports, if only this machine can connect or if there are keys)',
  )
    .env('INFERMUX_ADMIN')
    .argParser(parseAdmin),
  flag('--no-admin', 'refuse requests that load, unload or add models'),
  flag('--no-console', 'turn off the page at /console'),
  flag('--replicas <count>', 'number of threads or processes that run models (default: one for each core)')
    .env('INFERMUX_REPLICAS')
    .argParser(parseCount),
  flag(
    '--isolation <kind>',
    'run each replica as a thread, or as a process for models that you do not trust (default: thread)',
  )
    .env('INFERMUX_ISOLATION')
    .choices(['thread', 'process']),
  flag('--max-models <count>', 'maximum number of models in each replica (default: 3)')
    .env('INFERMUX_MAX_MODELS')
    .argParser(parseCount),
  flag('--load-on-start', 'load all models at the start').env('INFERMUX_LOAD_ON_START'),
  flag('--poll <seconds>', 'time between two checks for changed models (default: 0, no regular checks)')
    .env('INFERMUX_POLL')
    .argParser(parseDelay),
  flag('--api-keys <file>', 'a file with one key on each line; all requests except health checks need one').env(
    'INFERMUX_API_KEYS',
  ),
  flag(
    '--admin-keys <file>',
    'a file with the keys that may load, unload and add models; without --api-keys, other requests need no key',
  ).env('INFERMUX_ADMIN_KEYS'),
  flag('--tls-key <file>', 'private key of the server, for TLS').env('INFERMUX_TLS_KEY'),
  flag('--tls-cert <file>', 'certificate of the server, for TLS').env('INFERMUX_TLS_CERT'),
  flag('--tls-ca <file>', 'CA certificate; with it, every client must present a certificate that this CA signed').env(
    'INFERMUX_TLS_CA',
  ),
  flag('--cors <origins>', 'origins whose pages may send requests, separated by commas').env('INFERMUX_CORS'),
  flag('--max-body <mebibytes>', 'maximum size of a body (default: 64)').env('INFERMUX_MAX_BODY').argParser(parseCount),
  flag('--triton-metrics', "add metrics with Triton's names").env('INFERMUX_TRITON_METRICS'),
  flag('--log-level <level>', 'level of the log on stderr (default: warn, or info with --log-requests)')
    .env('INFERMUX_LOG_LEVEL')
    .choices(LOG_LEVELS),
  flag('--log-requests', 'log each request, at level info').env('INFERMUX_LOG_REQUESTS'),
  flag(
    '--drain-delay <seconds>',
    'how long to accept requests after SIGTERM; the readiness check fails during this time (default: 0)',
  )
    .env('INFERMUX_DRAIN_DELAY')
    .argParser(parseDelay),
  flag('--grace <seconds>', 'how long to wait for accepted requests before exiting (default: 30)')
    .env('INFERMUX_GRACE')
    .argParser(parseDelay),
  flag('--nats <url>', 'announce this node to proxies through NATS, for example nats://10.0.0.9:4222').env(
    'INFERMUX_NATS',
  ),
  flag(
    '--advertise <host>',
    'with --nats: the address by which others reach this node (default: that of --host, or the first network address of the machine)',
  ).env('INFERMUX_ADVERTISE'),
];

/** commander takes any value of a variable for a yes. */
const NO = /^(0|false|no|off)$/i;

/** Takes the variables that say nothing out of the environment, and those of flags without a value that say no. */
export function withoutRefusals(env: NodeJS.ProcessEnv): void {
  for (const option of SERVE_OPTIONS) {
    const name = option.envVar;
    if (name === undefined) continue;
    const value = env[name] ?? '';
    if (value === '' || (option.isBoolean() && NO.test(value))) delete env[name];
  }
}
