import { isIP } from 'node:net';
import { type Address, textOf } from '../addresses.js';
import { AFTER_MODEL, BEFORE_MODEL, type ProxySettings } from './proxied-nodes.js';

/**
 * Returns a complete static configuration of Envoy, with each part explained. As {@link haproxyConfig}: requests for one model
 * go to one node. Envoy does not look into messages of gRPC, so there the model must be in the metadata.
 */
export function envoyConfig({ nodes, bind, bindGrpc, nodeCa }: ProxySettings): string {
  const http = nodes.map((node) => node.http);
  const grpc = nodes.flatMap((node) => (node.grpc === undefined ? [] : [node.grpc]));
  const withGrpc = bindGrpc !== undefined && grpc.length > 0;
  const clusterOf = (name: string, addresses: readonly Address[]) => cluster(name, addresses, http, nodeCa);
  return `# Envoy for infermux: one model, one node. Made by "infermux cluster config envoy".
static_resources:
  listeners:
${listener('rest', bind, REST_ROUTES)}${withGrpc ? listener('grpc', bindGrpc, GRPC_ROUTES) : ''}  clusters:
${clusterOf('rest', http)}${clusterOf('rest_any', http)}${withGrpc ? clusterOf('grpc', grpc) + clusterOf('grpc_any', grpc) : ''}${ADMIN}`;
}

const ADMIN = `# What Envoy does, for this machine alone.
admin:
  address: { socket_address: { address: 127.0.0.1, port_value: 9901 } }
# Envoy refuses regular expressions above a size, which is too small for those that find the model in a path.
layered_runtime:
  layers:
    - name: expressions
      static_layer: { re2: { max_program_size: { error_level: 1000 } } }
`;

const at = ({ host, port }: Address) => `{ socket_address: { address: "${host}", port_value: ${port} } }`;

function listener(name: 'rest' | 'grpc', bind: Address, routes: string): string {
  return `    - name: ${name}
      address: ${at(bind)}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                # Prefix of Envoy's statistics for this listener.
                stat_prefix: ${name}
                # Each try of a request has the same X-Request-Id: the client's, or one that Envoy makes.
                preserve_external_request_id: true
                # Streams of answers may be silent for long.
                stream_idle_timeout: 600s
                route_config:
                  name: ${name}
                  virtual_hosts:
                    - name: infermux
                      domains: ["*"]
                      # A request of up to this many bytes is kept, so that it can be sent to another node. A larger one is
                      # sent once; a client that tries again by itself, as infermux/client does, covers those.
                      per_request_buffer_limit_bytes: 65536
                      # What never arrived at a node is tried at another one.
                      retry_policy:
                        retry_on: connect-failure,refused-stream
                        ${RETRY_ELSEWHERE(IN_HOST)}
                      routes:
${routes}                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
`;
}

const RETRY_ELSEWHERE = (indent: string) =>
  [
    '# Each further try at another node.',
    'num_retries: 3',
    'retry_host_predicate:',
    '  - name: envoy.retry_host_predicates.previous_hosts',
    '    typed_config:',
    '      "@type": type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate',
    'host_selection_retry_max_attempts: 5',
    'retry_back_off: { base_interval: 0.025s, max_interval: 0.25s }',
  ].join(`\n${indent}`);

const IN_HOST = ' '.repeat(24);
const IN_ROUTE = ' '.repeat(30);

/** How a request is tried again that may run twice. @param answers of nodes after which another one may do better. */
const safe = (answers: string) => `retry_policy:
                              retry_on: ${answers}
                              ${RETRY_ELSEWHERE(IN_ROUTE)}`;

const SAFE_REST = safe(
  'connect-failure,refused-stream,reset,retriable-status-codes\n                              retriable_status_codes: [503]',
);
const SAFE_GRPC = safe('connect-failure,refused-stream,reset,unavailable');

/** What follows a name of a model in hash keys: `@` and a version. */
const VERSION = '(?:(?:@|%40)[^/?]*)?';

const BY_PATH = `hash_policy:
                              # The model is in the path: /v2/models/M/infer, with or without a version.
                              - header:
                                  header_name: ":path"
                                  regex_rewrite:
                                    pattern: { regex: "${BEFORE_MODEL}(.+?)${VERSION}${AFTER_MODEL.replace('$', '(\\\\?.*)?$')}" }
                                    substitution: "\\\\3"`;

const BY_METADATA = `hash_policy:
                              - header:
                                  header_name: x-infermux-model
                                  regex_rewrite:
                                    pattern: { regex: "^(.+?)${VERSION}$" }
                                    substitution: "\\\\1"`;

/** infermux/client marks requests for handlers so: their path is that of a model, and they may change something. */
const NOT_MARKED = '{ name: x-infermux-retry, present_match: true, invert_match: true }';
const GET = '{ name: ":method", string_match: { exact: GET } }';

const REST_ROUTES = `                        # A run of a model changes nothing, so it may run twice: it is tried again when the connection
                        # breaks before the answer, and when the node says that another one may do better.
                        # infermux/client marks requests for handlers, which have the same path and may change something.
                        - match:
                            safe_regex: { regex: "/v2/models/.+/infer" }
                            headers: [${NOT_MARKED}]
                          route:
                            cluster: rest
                            timeout: 600s
                            ${SAFE_REST}
                            ${BY_PATH}
                        # So are questions about a model.
                        - match: { safe_regex: { regex: "/v2/models/.+" }, headers: [${GET}] }
                          route:
                            cluster: rest
                            timeout: 600s
                            ${SAFE_REST}
                            ${BY_PATH}
                        # A handler may change something: its request is tried again only if it never arrived.
                        - match: { safe_regex: { regex: "/v2/(repository/.*)?models/.+" } }
                          route:
                            cluster: rest
                            # Streams of answers take as long as they take.
                            timeout: 0s
                            ${BY_PATH}
                        # What names no model goes to the less busy of two nodes.
                        - match: { prefix: "/", headers: [${GET}] }
                          route:
                            cluster: rest_any
                            timeout: 600s
                            ${SAFE_REST}
                        - match: { prefix: "/" }
                          route: { cluster: rest_any, timeout: 600s }
`;

const SERVICE = '/inference\\\\.GRPCInferenceService';

const GRPC_ROUTES = `                        # Envoy does not look into messages. The model must be in the metadata x-infermux-model, as
                        # infermux/client puts it there. ModelInfer may run twice, and so may questions.
                        - match:
                            safe_regex: { regex: "${SERVICE}/Model(Infer|Ready|Metadata)" }
                            headers:
                              - { name: x-infermux-model, present_match: true }
                              - ${NOT_MARKED}
                          route:
                            cluster: grpc
                            timeout: 600s
                            ${SAFE_GRPC}
                            ${BY_METADATA}
                        # Calls without it go to the less busy of two nodes.
                        - match:
                            safe_regex: { regex: "${SERVICE}/(Model(Infer|Ready|Metadata)|Server(Live|Ready|Metadata))" }
                            headers: [${NOT_MARKED}]
                          route:
                            cluster: grpc_any
                            timeout: 600s
                            ${SAFE_GRPC}
                        # Streams are begun anew by their clients, since part of them may be answered; and so are requests for
                        # handlers.
                        - match: { prefix: "/", headers: [{ name: x-infermux-model, present_match: true }] }
                          route:
                            cluster: grpc
                            timeout: 0s
                            ${BY_METADATA}
                        - match: { prefix: "/" }
                          route: { cluster: grpc_any, timeout: 0s }
`;

const RING = `      # Models hash onto a ring of nodes: when a node comes or goes, only its share of the models moves.
      lb_policy: RING_HASH
      ring_hash_lb_config: { minimum_ring_size: 4096 }
      common_lb_config:
        # Where less than half of the nodes are healthy, requests go to all: better late than not at all.
        healthy_panic_threshold: { value: 50 }
        # If a node has more than this percentage of the average number of requests in progress, further ones go to the next node.
        consistent_hashing_lb_config: { hash_balance_factor: 200 }
`;

const TWO_CHOICES = `      # Of two nodes the less busy one. A node that is new gets its share within ten seconds.
      lb_policy: LEAST_REQUEST
      least_request_lb_config: { choice_count: 2, slow_start_config: { slow_start_window: 10s } }
      common_lb_config: { healthy_panic_threshold: { value: 50 } }
`;

const HTTP2 = `      # Each connection to a node carries the calls of many clients. A node that is cut off does not answer pings.
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config:
            http2_protocol_options: { connection_keepalive: { interval: 1s, timeout: 2s } }
`;

const tls = (
  nodeCa: string,
  isGrpc: boolean,
) => `      # The CA must have signed the certificate of a node. Names in it are not compared.
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          common_tls_context:
            alpn_protocols: [${isGrpc ? 'h2' : 'http/1.1'}]
            validation_context: { trusted_ca: { filename: "${nodeCa}" } }
`;

const PROBES_BY_HTTP1 = `          tls_options: { alpn_protocols: [http/1.1] }
`;

function cluster(
  name: string,
  addresses: readonly Address[],
  probed: readonly Address[],
  nodeCa: string | undefined,
): string {
  const isGrpc = name.startsWith('grpc');
  const endpoints = addresses.map((address, index) => {
    const own = probed[index] as Address;
    const probe = isGrpc ? `, health_check_config: { port_value: ${own.port} }` : '';
    // All the addresses of a name would have one place.
    const place =
      isIP(own.host) > 0 ? `, metadata: { filter_metadata: { envoy.lb: { hash_key: "${textOf(own)}" } } }` : '';
    return `              - { endpoint: { address: ${at(address)}${probe} }${place} }\n`;
  });
  return `    - name: ${name}
      # Names may stand for several addresses, and are looked up again.
      type: STRICT_DNS
      # A node that cannot be reached is given up soon: the request goes to another one.
      connect_timeout: 1s
${name.endsWith('_any') ? TWO_CHOICES : RING}      # A node says itself whether it is steady: not while it starts, ends, has no replica or lacks processor time.
      health_checks:
        - timeout: 1s
          interval: 0.5s
          unhealthy_threshold: 2
          healthy_threshold: 1
          http_health_check: { path: /v2/health/steady${isGrpc ? ', codec_client_type: HTTP1' : ''} }
${nodeCa !== undefined && isGrpc ? PROBES_BY_HTTP1 : ''}      # Two failed connections in a row take a node out before the probes do.
      outlier_detection:
        split_external_local_origin_errors: true
        consecutive_local_origin_failure: 2
        # What a node answers does not count: it may be the fault of one model.
        enforcing_consecutive_5xx: 0
        enforcing_consecutive_gateway_failure: 0
        enforcing_success_rate: 0
        base_ejection_time: 2s
        interval: 1s
      # TCP keepalive detects a node that is cut off from the network.
      upstream_connection_options:
        tcp_keepalive: { keepalive_probes: 2, keepalive_time: 1, keepalive_interval: 1 }
      # The nodes have limits of their own.
      circuit_breakers:
        thresholds: [{ max_connections: 20000, max_pending_requests: 20000, max_requests: 20000, max_retries: 100 }]
${isGrpc ? HTTP2 : ''}${nodeCa === undefined ? '' : tls(nodeCa, isGrpc)}      load_assignment:
        cluster_name: ${name}
        endpoints:
          # The place on the ring follows from the address of REST, so that a model is on the same node in both protocols. Those of
          # a name follow from each address that it stands for.${isGrpc ? ' The probes are those of REST.' : ''}
          - lb_endpoints:
${endpoints.join('')}`;
}
