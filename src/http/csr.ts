/** The route that makes certification requests. */
import * as contract from '../contract/csr.ts';
import { notedBy } from './notes.ts';
import { route } from './route.ts';
import { givenVersion, usedMembers } from './used.ts';
import type { z } from 'zod';
import type { RequestContent } from '../crypto/csr.ts';
import type { HttpDependencies } from './dependencies.ts';
import type { AuditNotes } from './notes.ts';
import type { GuardedRoute } from './route.ts';

type Body = z.output<typeof contract.requestCertificate.body>;

/** Which attributes stand in the entry; values by their keyed hash alone, as those of a context. */
function noteNames(notes: AuditNotes, { subject, alternativeNames = [] }: Body): void {
  const names = JSON.stringify({ subject, alternativeNames });
  notes.context({ aad: Buffer.from(names) });
  const attributes = new Set(subject.flatMap((relative) => Object.keys(relative)));
  notes.detail({
    subjectAttributes: JSON.stringify([...attributes].toSorted()),
    alternativeNames: alternativeNames.length,
  });
}

export function csrRoutes({ use }: Pick<HttpDependencies, 'use'>): readonly GuardedRoute[] {
  return [
    route(contract.requestCertificate, {
      handle: async ({ grant, body, notes }) => {
        noteNames(notes, body);
        const { used, pem } = await use.requestCertificate(grant, {
          // The schema has seen to it that each name has its one kind and no member is undefined.
          content: { alternativeNames: [], ...body } as RequestContent,
          ...givenVersion(body),
          ...notedBy(notes),
        });
        notes.used(used);
        return { body: { csr: pem, ...usedMembers(used) } };
      },
    }),
  ];
}
