/// <reference types="node" preserve="true" />
/**
 * OpenTelemetry spans.
 *
 * @module infermux/opentelemetry
 */
export { InfermuxInstrumentation } from './instrumentation.js';
