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
  flag('--print-config', 'print what would be served with, and end'),
  flag('--model-name <name>', 'a name for the only model, beside its own').env('INFERMUX_MODEL_NAME'),
  flag('--node-name <name>', 'name among several nodes, for answers; host and port of REST if not said').env(
    'INFERMUX_NODE_NAME',
  ),
  flag('--host <address>', 'address to listen on; 127.0.0.1 if not said, 0.0.0.0 for all').env('INFERMUX_HOST'),
  flag('--http-port <port>', 'port of REST; 8000 if not said').env('INFERMUX_HTTP_PORT').argParser(parsePort),
  flag('--grpc-port <port>', 'port of gRPC; 8001 if not said').env('INFERMUX_GRPC_PORT').argParser(parsePort),
  flag('--no-http', 'no REST'),
  flag('--no-grpc', 'no gRPC'),
  flag('--admin [address]', 'allow loads and unloads: on the same ports, or on host:port')
    .env('INFERMUX_ADMIN')
    .argParser(parseAdmin),
  flag('--no-admin', 'allow no loads and unloads'),
  flag('--no-console', 'no page at /console'),
  flag('--replicas <count>', 'threads or processes that run models').env('INFERMUX_REPLICAS').argParser(parseCount),
  flag('--isolation <kind>', 'what each replica is; thread if not said, process for models that you do not trust')
    .env('INFERMUX_ISOLATION')
    .choices(['thread', 'process']),
  flag('--max-models <count>', 'models that each of them holds').env('INFERMUX_MAX_MODELS').argParser(parseCount),
  flag('--load-on-start', 'load all models at the start').env('INFERMUX_LOAD_ON_START'),
  flag('--poll <seconds>', 'look for changed models so often; 0 for never').env('INFERMUX_POLL').argParser(parseDelay),
  flag('--api-keys <file>', 'a file with one key a line; each request needs one').env('INFERMUX_API_KEYS'),
  flag('--admin-keys <file>', 'the same for loads and unloads').env('INFERMUX_ADMIN_KEYS'),
  flag('--tls-key <file>', 'private key, for TLS').env('INFERMUX_TLS_KEY'),
  flag('--tls-cert <file>', 'certificate, for TLS').env('INFERMUX_TLS_CERT'),
  flag('--tls-ca <file>', 'certificate that signs those of clients: each client needs one').env('INFERMUX_TLS_CA'),
  flag('--cors <origins>', 'origins whose pages may ask, with commas between').env('INFERMUX_CORS'),
  flag('--max-body <megabytes>', 'most of a body; 64 if not said').env('INFERMUX_MAX_BODY').argParser(parseCount),
  flag('--triton-metrics', "show the counts of models under Triton's names, too").env('INFERMUX_TRITON_METRICS'),
  flag('--log-level <level>', 'level of the log on stderr; warn if not said')
    .env('INFERMUX_LOG_LEVEL')
    .choices(LOG_LEVELS),
  flag('--log-requests', 'log each request, at info').env('INFERMUX_LOG_REQUESTS'),
  flag('--drain-delay <seconds>', 'go on so long after the signal to end, not ready')
    .env('INFERMUX_DRAIN_DELAY')
    .argParser(parseDelay),
  flag('--grace <seconds>', 'time for accepted requests at the end; 30 if not said')
    .env('INFERMUX_GRACE')
    .argParser(parseDelay),
  flag('--nats <url>', 'announce this node to proxies by NATS, like nats://10.0.0.9:4222').env('INFERMUX_NATS'),
  flag('--advertise <host>', 'with --nats: the address that others reach this node by; its first one if not said').env(
    'INFERMUX_ADVERTISE',
  ),
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
