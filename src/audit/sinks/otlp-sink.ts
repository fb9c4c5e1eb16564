/**
 * OpenTelemetry logs: OTLP/HTTP (opentelemetry-proto 1.x, `ExportLogsServiceRequest`) in its JSON form:
 * field names in lowerCamelCase, 64-bit integers as decimal strings, enumerations as numbers.
 *
 * The body of a log record is the entry's JSON as one string, so that nothing of it depends on how a
 * collector maps values; what is searched for stands in attributes too.
 */
import { NAME } from '../../name.ts';
import { requireTaken } from './http-sink.ts';
import { RecordRefused } from './ports.ts';
import type { Sink, SinkRecord } from './ports.ts';
import { Poster } from './post.ts';
import type { PostTarget } from './post.ts';

/** `SeverityNumber` INFO and WARN. */
const [INFO, WARN] = [9, 13];
const NANOSECONDS = '000000';

export interface OtlpIdentity {
  /** `service.version`. */
  readonly version: string;
  /** `service.instance.id`: who sends, not who wrote the entries. */
  readonly instance: string;
}

const text = (key: string, value: string) => ({ key, value: { stringValue: value } });

/** Milliseconds since the epoch as `fixed64` of nanoseconds. */
const nanos = (ms: number): string => `${String(ms)}${NANOSECONDS}`;

export function logRecord(record: SinkRecord, observedMs: number) {
  const { index, id, at, operation, outcome, namespace, json } = record;
  const isGood = outcome === 'ok';
  return {
    timeUnixNano: nanos(at.getTime()),
    observedTimeUnixNano: nanos(observedMs),
    severityNumber: isGood ? INFO : WARN,
    severityText: isGood ? 'INFO' : 'WARN',
    eventName: `${NAME.metric}.audit`,
    body: { stringValue: json },
    attributes: [
      { key: 'audit.index', value: { intValue: String(index) } },
      text('audit.id', id),
      text('audit.operation', operation),
      text('audit.outcome', outcome),
      text('audit.namespace', namespace),
    ],
  };
}

/** `ExportLogsServiceRequest`. */
export function exportRequest(
  records: readonly SinkRecord[],
  { version, instance }: OtlpIdentity,
  observedMs: number,
): string {
  return JSON.stringify({
    resourceLogs: [
      {
        resource: {
          attributes: [
            text('service.name', NAME.metric),
            text('service.version', version),
            text('service.instance.id', instance),
          ],
        },
        scopeLogs: [
          {
            scope: { name: `${NAME.metric}.audit` },
            logRecords: records.map((record) => logRecord(record, observedMs)),
          },
        ],
      },
    ],
  });
}

/** Records that a 200 says were not taken (`partialSuccess`); they must not be sent again as they are. */
export function rejectedRecords(body: Uint8Array): number {
  let answer: unknown;
  try {
    answer = JSON.parse(Buffer.from(body).toString());
  } catch {
    // Collectors answer an empty body, or one of protobuf, when all went well.
    return 0;
  }
  const { partialSuccess } = (answer ?? {}) as {
    partialSuccess?: { rejectedLogRecords?: unknown };
  };
  return Number(partialSuccess?.rejectedLogRecords ?? 0);
}

export class OtlpSink implements Sink {
  readonly #poster: Poster;
  readonly #identity: OtlpIdentity;
  readonly #clock: () => number;

  constructor(target: PostTarget, identity: OtlpIdentity, clock: () => number = Date.now) {
    this.#poster = new Poster(target);
    this.#identity = identity;
    this.#clock = clock;
  }

  async deliver(records: readonly SinkRecord[]): Promise<void> {
    const request = exportRequest(records, this.#identity, this.#clock());
    const { status, body } = await this.#poster.post(request, {
      'Content-Type': 'application/json',
    });
    requireTaken(status);
    // Which ones it does not say: they are found as those of a 400 are, one by one.
    if (rejectedRecords(body) > 0) throw new RecordRefused('the collector rejected records');
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the port's form
  async close(): Promise<void> {
    this.#poster.close();
  }
}
