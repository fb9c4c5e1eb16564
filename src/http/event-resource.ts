/** Stored events as CloudEvents 1.0. */
import type { z } from 'zod';

import type { cloudEvent } from '../contract/events.ts';
import type { EventPlace, StoredEvent } from '../keyring/event-ports.ts';
import { withListedLabels } from '../keyring/events.ts';
import { NAME } from '../name.ts';

type CloudEvent = z.output<typeof cloudEvent>;

export const placeText = ({ epoch, n }: EventPlace): string => `${String(epoch)}-${String(n)}`;

/** The stored type of one that a query names in full. */
export const storedType = (type: string | undefined): string | null =>
  type === undefined ? null : type.slice(NAME.eventType.length);

export function eventResource(event: StoredEvent, installation: string): CloudEvent {
  return {
    specversion: '1.0',
    id: placeText(event),
    source: `${NAME.eventSource}${installation}`,
    type: `${NAME.eventType}${event.type}` as CloudEvent['type'],
    subject: event.keyName,
    time: event.at.toISOString(),
    datacontenttype: 'application/json',
    data: withListedLabels(event.data),
    [NAME.eventNamespace]: event.namespace,
    keyid: event.keyId,
    auditid: event.auditId,
  };
}
