/** The ceremonies by which a root travels, from their requests. In the ceremony process. */
import { nativeEngine } from '../crypto/native-engine.ts';
import { wipe } from '../crypto/secret.ts';
import { readCarriedFile } from '../recovery/carried-file.ts';
import { recoveryKeyOf } from '../recovery/key.ts';
import { seedOf } from '../recovery/shares.ts';
import { acceptJoin, endJoin, offerJoin } from './ceremony-join.ts';
import type { JoinEnded, JoinEnding, JoinOffer } from './ceremony-join.ts';
import type { RootMade } from './ceremony-root.ts';
import { escrowRoot, placeRoot } from './ceremony-transport.ts';
import type { Transport } from './ceremony-transport.ts';
import type { Cryptoki } from './cryptoki.ts';
import { escrowOf, escrowText } from './escrow-text.ts';
import type { EscrowText } from './escrow-text.ts';
import { PinFile, pinScope } from './pin.ts';
import type { PinRole } from './pin.ts';
import type { RootOnToken } from './port.ts';
import type { TokenSelector } from './protocol.ts';

export type { EscrowText } from './escrow-text.ts';

interface Place {
  readonly module: string;
  readonly moduleParameters: string | undefined;
  readonly tokenSelector: TokenSelector;
  readonly pinFile: string;
  readonly soPinFile: string;
  /** Where the marks of refused PINs lie. */
  readonly stateDir: string;
}

export type TransportRequest = Place &
  (
    | {
        readonly action: 'escrow-root';
        readonly root: RootOnToken;
        /** Base64. */
        readonly publicKey: string;
      }
    | {
        readonly action: 'place-root';
        readonly escrow: EscrowText;
        readonly shareFiles: readonly string[];
      }
    | { readonly action: 'accept-join'; readonly escrow: EscrowText }
  );

/** What needs no PIN of the security officer: the offer, and its end. */
export type OfferRequest = Omit<Place, 'soPinFile'> &
  ({ readonly action: 'offer-join' } | ({ readonly action: 'end-join' } & JoinEnding));

export async function performTransport(
  cryptoki: Cryptoki,
  request: TransportRequest,
): Promise<EscrowText | RootMade> {
  const { module, tokenSelector, stateDir } = request;
  const pin = (path: string, role: PinRole) =>
    new PinFile(path, stateDir, pinScope(module, tokenSelector), role);
  const transport: Transport = {
    ...{ module, tokenSelector, engine: nativeEngine },
    user: pin(request.pinFile, 'user'),
    officer: pin(request.soPinFile, 'so'),
  };
  if (request.action === 'accept-join') {
    const escrow = escrowOf(request.escrow);
    return acceptJoin(cryptoki, { ...transport, escrow, stateDir });
  }
  if (request.action === 'escrow-root') {
    const publicKey = Uint8Array.from(Buffer.from(request.publicKey, 'base64'));
    return escrowText(await escrowRoot(cryptoki, { ...transport, root: request.root, publicKey }));
  }
  return place(cryptoki, transport, request);
}

export async function performOffer(
  cryptoki: Cryptoki,
  request: OfferRequest,
): Promise<JoinOffer | JoinEnded> {
  const { module, tokenSelector, stateDir, pinFile } = request;
  const user = new PinFile(pinFile, stateDir, pinScope(module, tokenSelector), 'user');
  const offering = { tokenSelector, user, engine: nativeEngine, stateDir };
  if (request.action === 'offer-join') return offerJoin(cryptoki, offering);
  const { publicKey, roots } = request;
  return endJoin(cryptoki, { ...offering, publicKey, roots });
}

/** The seed is in this process for as long as the ceremony takes, and nowhere else. */
async function place(
  cryptoki: Cryptoki,
  transport: Transport,
  request: TransportRequest & { readonly action: 'place-root' },
): Promise<RootMade> {
  const given = request.shareFiles.map((name) => ({ name, text: readCarriedFile(name) }));
  const seed = seedOf(given);
  try {
    const key = recoveryKeyOf(transport.engine, seed);
    try {
      return await placeRoot(cryptoki, { ...transport, escrow: escrowOf(request.escrow), key });
    } finally {
      key.wipe();
    }
  } finally {
    wipe(seed);
  }
}
