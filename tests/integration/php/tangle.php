<?php

// Envelopes in which everything may be shared with everything: what serialize() writes as r:N; and R:N;.

namespace App\Tangle {
    use Symfony\Component\Messenger\Envelope;
    use Symfony\Component\Messenger\Stamp;

    enum Suit: string
    {
        case Hearts = 'H';
        case Spades = 'S';
    }

    final class Node
    {
        public mixed $first = null;
        protected mixed $second = null;
        private array $list = [];

        public function fill(mixed &$first, mixed $second, array $list): void
        {
            $this->first = &$first;
            $this->second = $second;
            $this->list = $list;
        }
    }

    // serialize() writes it by its __serialize.
    final class Own
    {
        public function __construct(private array $inside)
        {
        }

        public function __serialize(): array
        {
            return ['inside' => $this->inside, 7 => $this];
        }

        public function __unserialize(array $data): void
        {
            $this->inside = $data['inside'];
        }
    }

    final class NodeStamp implements Stamp\StampInterface
    {
        public function __construct(public mixed $value)
        {
        }
    }

    final class OtherStamp implements Stamp\StampInterface
    {
        public function __construct(private mixed $value)
        {
        }
    }

    final class TangledMessage
    {
        public string $topic = 'a/b';
        public mixed $before = null;
        public string $payload = '{"v":1}';
        public mixed $behind = null;
    }

    function value(array &$pool): mixed
    {
        switch (mt_rand(0, 9)) {
            case 0:
                return mt_rand(-100, 100);
            case 1:
                return mt_rand() / 7;
            case 2:
                return str_repeat("r:3;}\"'\\\0é", mt_rand(0, 3));
            case 3:
                return [null, true, \INF, Suit::Hearts][mt_rand(0, 3)];
            case 4:
                return Suit::Spades;
            case 5:
                return new \DateTimeImmutable('2026-11-24T10:00:00.5Z');
            case 6:
                return new Own([$pool[array_rand($pool)], mt_rand(0, 9)]);
            case 7:
                return [1, 'k' => $pool[array_rand($pool)], $pool[array_rand($pool)]];
            default:
                return $pool[array_rand($pool)];
        }
    }

    function stamp(array &$pool): Stamp\StampInterface
    {
        switch (mt_rand(0, 7)) {
            case 0:
                return new Stamp\DelayStamp(mt_rand(0, 5000));
            case 1:
                return new Stamp\TransportMessageIdStamp(mt_rand().'-0');
            case 2:
                return new Stamp\RedeliveryStamp(mt_rand(0, 3));
            case 3:
                return new Stamp\ErrorDetailsStamp('RuntimeException', mt_rand(0, 1), 'no answer');
            case 4:
                return new Stamp\SentToFailureTransportStamp('async');
            case 5:
                return new OtherStamp(value($pool));
            default:
                return new NodeStamp(value($pool));
        }
    }

    function envelope(): Envelope
    {
        $message = new TangledMessage();
        $pool = [new Node(), new Node(), new Node(), new Node(), $message];
        $shared = 5;
        foreach (\array_slice($pool, 0, 4) as $node) {
            if (mt_rand(0, 1)) {
                $own = value($pool);
                $node->fill($own, value($pool), [value($pool), value($pool)]);
            } else {
                $node->fill($shared, value($pool), [value($pool)]);
            }
        }
        $stamps = [];
        for ($i = mt_rand(0, 8); $i > 0; --$i) {
            $stamps[] = stamp($pool);
        }
        $message->before = value($pool);
        $message->behind = [value($pool), $message, &$shared, $stamps[0] ?? null];
        if (($stamps[0] ?? null) instanceof Stamp\TransportMessageIdStamp
            || ($stamps[0] ?? null) instanceof Stamp\SentToFailureTransportStamp) {
            $message->behind[3] = null; // a stamp that is replaced or removed can't be kept
        }

        return new Envelope($message, $stamps);
    }
}
