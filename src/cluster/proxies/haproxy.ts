import { isIP } from 'node:net';
import { textOf } from '../addresses.js';
import { GRPC_ANSWERS, REST_ANSWERS } from './haproxy-answers.js';
import { AFTER_MODEL, BEFORE_MODEL, type ProxiedNode, type ProxySettings, serverIds } from './proxied-nodes.js';

/** Servers that come and go while HAProxy runs: their addresses are set through its runtime socket. */
export interface HaproxyTemplate {
  /** Most nodes at a time. */
  readonly slots: number;
  readonly socket: string;
}

/**
 * Returns a complete configuration of HAProxy, 2.6 or later, with each line explained. Requests for one model go to one
 * node, so that each node loads few models; a node that has far more to do than the others passes some on.
 *
 * @param template instead of the nodes: the servers are named later.
 */
export function haproxyConfig(settings: ProxySettings, template?: HaproxyTemplate): string {
  const { bindGrpc } = settings;
  return [
    globalPart(template),
    ...(settings.nodes.some((node) => lookedUp(node) !== '') ? [RESOLVERS] : []),
    DEFAULTS,
    MODELS_TABLE,
    REST_DEFAULTS,
    restFrontend(textOf(settings.bind)),
    ...backends('rest', settings, template),
    ...(bindGrpc === undefined
      ? []
      : [GRPC_DEFAULTS, grpcFrontend(textOf(bindGrpc)), ...backends('grpc', settings, template)]),
  ].join('');
}

function globalPart(template: HaproxyTemplate | undefined): string {
  const socket =
    template === undefined
      ? ''
      : `  # infermux names the servers through it: only this user may.
  stats socket ${template.socket} mode 600 level admin
`;
  return `# HAProxy for infermux: one model, one node. Made by "infermux cluster config haproxy".
global
  log stdout format raw local0 notice
  # A request of up to this many bytes is kept until its answer begins, and can be sent to another node. A larger one is sent
  # once; a client that tries again by itself, as infermux/client does, covers those. More costs time and memory with each
  # request, since all of the buffer is copied.
  tune.bufsize 16384
${socket}`;
}

const RESOLVERS = `
# The names of nodes are looked up again while HAProxy runs, with the servers of the system.
resolvers system
  parse-resolv-conf
  hold valid 10s
  # A node keeps its last address while its name cannot be looked up: the probes tell whether it is there.
${['nx', 'timeout', 'refused', 'other'].map((failure) => `  hold ${failure} 24d\n`).join('')}
`;

const MODELS_TABLE = `
# Requests in progress, by model.
backend models from common
  stick-table type string len 256 size 100k expire 10m store conn_cur
`;

const DEFAULTS = `defaults common
  # Requests of HTTP. Those that failed, or were tried again, are logged, one on a line.
  mode http
  log global
  option httplog
  option dontlog-normal
  option log-separate-errors
  # What HAProxy itself answers when no node does, in the form in which nodes answer.
${REST_ANSWERS}  # Nodes see the address of the client in X-Forwarded-For.
  option forwardfor
  # A node that cannot be reached is given up soon: the request goes to another one.
  timeout connect 1s
  # A client that sends nothing, or reads nothing, is given up after that; one that is slow with its request, too.
  timeout client 600s
  timeout http-request 120s
  # A first request may wait for its model to be loaded, and streams take long. Lost nodes are found by probes, not by this.
  timeout server 600s
  # Clients keep their connections so long between two requests.
  timeout http-keep-alive 75s
  # A node that is cut off answers nothing, not even that it is gone: the system asks it each second, and after two without an
  # answer ends the connections. Their requests are tried elsewhere.
  option srvtcpka
  srvtcpka-idle 1s
  srvtcpka-intvl 1s
  srvtcpka-cnt 2
  # Tries after the first, each at another node than the one before.
  retries 3
  option redispatch 1
`;

const REST_DEFAULTS = `
defaults rest from common
  # A run of a model changes nothing, so it may run twice: it is tried again when the connection breaks before the answer, and
  # when the node says with 503 that another one may do better. Reads may be repeated, too.
  retry-on conn-failure empty-response 503
  # Anything else is tried again only where it never arrived; and so is a request for a handler, which may change something. The
  # path of infer is that of both: infermux/client marks those for handlers, and other clients may do so.
  http-request disable-l7-retry unless { path_end /infer } or METH_GET
  http-request disable-l7-retry if { req.hdr(x-infermux-retry) never }
  # With a hundred weights a node has sixteen hundred points on the ring, so that the shares are even.
  default-server weight 100
`;

const REPEATED_CALLS = '/ModelInfer /ModelReady /ModelMetadata /ServerReady /ServerLive /ServerMetadata';

const GRPC_DEFAULTS = `
defaults grpc_common from common
  # HAProxy's own answers in gRPC's form, without a body: clients with a retry policy try again what is UNAVAILABLE.
${GRPC_ANSWERS}
defaults grpc from grpc_common
  # Read-only calls and ModelInfer are tried again when the connection breaks before the answer. Streams are not: part of them may
  # be answered.
  # To a proxy the answer UNAVAILABLE is an answer: the client tries again (infermux/client does).
  retry-on conn-failure empty-response
  http-request disable-l7-retry unless { path_end ${REPEATED_CALLS} }
  http-request disable-l7-retry if { req.hdr(x-infermux-retry) never }
  # Each connection to a node carries the calls of many clients.
  http-reuse always
  default-server weight 100 proto h2
`;

function restFrontend(bind: string): string {
  return `
frontend rest from common
  bind ${bind}
  # A request can be tried again only if all of it was there when it was first sent: HAProxy waits for the body, or for as much of
  # it as it keeps.
  http-request wait-for-body time 120s if METH_POST { path_end /infer }
  # Each try of a request has the same name, in logs and in handlers.
  http-request set-header X-Request-Id %[uuid()] unless { req.hdr(X-Request-Id) -m found }
  # The model is in the path: /v2/models/M/infer, with or without a version. Loads go where the requests for the model go.
  http-request set-var(txn.model) path,url_dec,'regsub("${BEFORE_MODEL}","")','regsub("${AFTER_MODEL}","")',field(1,@) if { path_reg '${BEFORE_MODEL}' }
${choice('rest')}`;
}

function grpcFrontend(bind: string): string {
  return `
frontend grpc from grpc_common
  bind ${bind} proto h2
  # HAProxy's own answers have the status in a header, as those of gRPC do.
  http-after-response set-status 200 if { res.hdr(grpc-status) -m found }
  http-after-response set-header content-type application/grpc if { res.hdr(grpc-status) -m found }
  # A call can be tried again only if all of it was there when it was first sent.
  http-request wait-for-body time 120s if { path_end ${REPEATED_CALLS} }
  http-request set-header X-Request-Id %[uuid()] unless { req.hdr(X-Request-Id) -m found }
  # The model may be named in the metadata: infermux/client does so.
  http-request set-var(txn.model) req.hdr(x-infermux-model),url_dec,field(1,@) if { req.hdr(x-infermux-model) -m found }
  # Otherwise HAProxy reads it from the first bytes of the message. It cannot where the message is compressed, or where the model
  # is not its first field; and a stream may have several. These want the metadata.
  http-request set-var(txn.model) req.body,bytes(5),protobuf(1),field(1,@) if { path_end /ModelInfer } !{ var(txn.model) -m found } { req.body,bytes(0,1),hex 00 }
${choice('grpc')}`;
}

type Side = 'rest' | 'grpc';

/** The backends of each protocol. */
export const BACKENDS: Readonly<Record<Side, readonly string[]>> = {
  rest: ['rest', 'rest_spread', 'rest_ready'],
  grpc: ['grpc', 'grpc_spread', 'grpc_ready'],
};

/** A model with more requests under way, and with more than its node should have, is for all nodes. */
const MOST_OF_ONE_NODE = 16;

/** The end of a frontend: which backend takes a request. */
function choice(name: Side): string {
  return `  # Requests in progress for the model, and one and a half times as many as a node has on average.
  http-request track-sc0 var(txn.model) table models if { var(txn.model) -m found }
  http-request set-var(txn.steady) nbsrv(${name})
  http-request set-var(txn.spread) be_conn(${name}_spread)
  http-request set-var(txn.share) be_conn(${name}),add(txn.spread),mul(3),div(2),div(txn.steady)
  http-request set-var(txn.excess) sc_conn_cur(0),sub(txn.share)
  # Most nodes are ready, but not steady: better late than not at all.
  http-request set-var(txn.unsteady) nbsrv(${name}_ready),div(2),sub(txn.steady)
  use_backend ${name}_ready if { var(txn.unsteady) -m int gt 0 } or { nbsrv(${name}) eq 0 }
  # A model with very many requests is spread over several nodes, but not its requests with an idempotency key, which only one
  # node knows.
  use_backend ${name}_spread if { sc_conn_cur(0) gt ${MOST_OF_ONE_NODE} } { var(txn.excess) -m int gt 0 } !{ req.hdr(idempotency-key) -m found }
  use_backend ${name} if { var(txn.model) -m found }
  default_backend ${name}_spread
`;
}

function backends(name: Side, settings: ProxySettings, template: HaproxyTemplate | undefined): readonly string[] {
  const ids = serverIds(settings.nodes);
  const isGrpc = name === 'grpc';
  const { nodeCa } = settings;
  const isSecure = nodeCa !== undefined;
  const settingsOfAll = `${UNHEARD}${isSecure ? ` ssl verify required ca-file ${nodeCa}${isGrpc ? ' alpn h2' : ''}` : ''}`;
  // The probes are of HTTP/1.1, whatever the requests are.
  const proto = isGrpc ? ` check-proto h1${isSecure ? ' check-ssl check-alpn http/1.1' : ''}` : '';
  const addresses = settings.nodes.map(({ http, grpc }) => textOf(isGrpc && grpc !== undefined ? grpc : http));
  /** @param tracked the backend of REST whose probes tell the state; undefined: these servers have probes of their own. */
  const servers = (tracked: string | undefined) => {
    if (template !== undefined)
      // `server-template` gives these settings to its first server alone.
      return Array.from({ length: template.slots }, (_, index) => slotLine(index + 1, `${settingsOfAll}${proto}`)).join(
        '',
      );
    const lines = addresses.map((address, index) => {
      const state = tracked === undefined ? '' : ` track ${tracked}/n${index + 1}`;
      return `  server n${index + 1} ${address} id ${ids[index]} ${settingsOfAll}${state}${lookedUp(settings.nodes[index])}\n`;
    });
    return lines.join('');
  };
  // Servers without an address cannot name those that they follow.
  const isProbed = name === 'rest' || template !== undefined;
  const steady = (hasOwn: boolean) => (hasOwn ? probes('steady') : '') + servers(hasOwn ? undefined : 'rest');
  return [
    `
backend ${name} from ${name}
  # Requests hash by model onto a ring of nodes: when a node comes or goes, only its share of the models moves.
${onRing(BALANCE_FACTOR)}${SERVERS[template === undefined ? 'fixed' : 'template']}${isSecure ? SECURE : ''}${steady(isProbed)}`,
    `
backend ${name}_spread from ${name}
  # Hot models, and what names no model: each request goes to the less busy of two nodes.
  balance random(2)
${steady(template !== undefined)}`,
    `
backend ${name}_ready from ${name}
  # Where most nodes are not steady. A model is still on one node: to load it elsewhere would cost time, which is what is short.
${onRing(BALANCE_FACTOR_SHORT)}${isProbed ? probes('ready') : ''}${servers(isProbed ? undefined : 'rest_ready')}`,
  ];
}

const UNHEARD_TOO = `tcp-ut ends connections to
  # a node that does not take what is sent; TCP keepalive does that for one that owes an answer.
`;

const SECURE = `  # TLS: the CA must have signed the certificate of a node. Names in it are not compared.
`;

const SERVERS = {
  fixed: `  # The id is the node's place on the ring: it follows from the address. ${UNHEARD_TOO}`,
  template: `  # Slots: infermux sets their addresses when nodes come, and disables them when they go. ${UNHEARD_TOO}`,
};

const slotLine = (slot: number, settings: string) => `  server n${slot} 127.0.0.1:1 ${settings} disabled\n`;

/** A node that has a name may have another address later, or none yet. */
function lookedUp(node: ProxiedNode | undefined): string {
  return node === undefined || isIP(node.http.host) > 0 ? '' : ' resolvers system init-addr libc,none';
}

/** HAProxy 2.6 inherits neither it nor `check-proto` from `default-server`. */
const UNHEARD = 'tcp-ut 2s';

/** Percent of the average number of requests under way, above which a node passes requests on. */
const BALANCE_FACTOR = 300;

/** The same where all are short of time: no node may have much more to do than the others. */
const BALANCE_FACTOR_SHORT = 150;

const onRing = (factor: number) => `  balance hash var(txn.model)
  hash-type consistent sdbm avalanche
  # If a node has more than this percentage of the average number of requests in progress, further ones go to the next node.
  hash-balance-factor ${factor}
`;

const MEANINGS = {
  ready: 'A node is ready: not while it starts, ends, or has no replica. One that is to end says so first, and drains.',
  steady:
    'A node is steady: it is ready, and has the processor time that it wants. One that is to end says so first, and drains.',
};

function probes(what: keyof typeof MEANINGS): string {
  return `  # ${MEANINGS[what]}
  option httpchk GET /v2/health/${what}
  http-check expect status 200
  # Probes twice a second; two that fail take a node out, and so do two refused connections. A node that comes back gets its
  # models one after the other within ten seconds, so that it does not load all at once.
  default-server check inter 500ms fastinter 200ms downinter 500ms fall 2 rise 1 slowstart 10s observe layer4 error-limit 2 on-error mark-down
`;
}
