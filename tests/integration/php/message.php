<?php

// The application's message and its handler. MESSAGE_PROPERTIES says how the application declares its
// properties (public, protected or private): the serialized bytes differ.

namespace App\Message {
    $properties = getenv('MESSAGE_PROPERTIES') ?: 'public';
    if ('public' === $properties) {
        final class MqttMessage
        {
            public function __construct(public readonly string $topic, public readonly string $payload)
            {
            }
        }
    } elseif ('protected' === $properties) {
        class MqttMessage
        {
            public function __construct(protected string $topic, protected string $payload)
            {
            }

            public function getTopic(): string
            {
                return $this->topic;
            }

            public function getPayload(): string
            {
                return $this->payload;
            }
        }
    } else {
        class MqttMessage
        {
            public function __construct(private string $topic, private string $payload)
            {
            }

            public function getTopic(): string
            {
                return $this->topic;
            }

            public function getPayload(): string
            {
                return $this->payload;
            }
        }
    }
}

namespace App\Stamp {
    use Symfony\Component\Messenger\Stamp\StampInterface;

    // The application's own, which the bridge does not know. Under PhpSerializer it holds the message itself: the
    // envelope's message is then a reference to what stands in the stamp.
    final class TraceStamp implements StampInterface
    {
        public function __construct(public readonly string $trace, public readonly ?object $about = null)
        {
        }
    }
}

namespace App\MessageHandler {
    use App\Message\MqttMessage;
    use App\Stamp\TraceStamp;
    use Symfony\Component\Messenger\Envelope;
    use Symfony\Component\Messenger\Exception\UnrecoverableMessageHandlingException;

    // Writes what it gets to HANDLED_FILE, a JSON line each. HANDLER_FAILS=1: it always fails; topics that
    // begin with fail/ or poison/ make it fail, the second at once and for good. HANDLER_FAILS=poison: all do so.
    final class MqttMessageHandler
    {
        private static ?string $trace = null;

        // Of the envelope whose message comes next: what its TraceStamp says, and whether that is about the message.
        public static function remember(Envelope $envelope): void
        {
            $stamp = $envelope->last(TraceStamp::class);
            $about = null === $stamp?->about ? 'nothing' : ($stamp->about === $envelope->getMessage() ? 'it' : 'another');
            self::$trace = $stamp ? "$stamp->trace, about $about" : null;
        }

        public function __invoke(MqttMessage $message): void
        {
            $topic = method_exists($message, 'getTopic') ? $message->getTopic() : $message->topic;
            $payload = method_exists($message, 'getPayload') ? $message->getPayload() : $message->payload;
            if ('poison' === getenv('HANDLER_FAILS') || str_starts_with($topic, 'poison/')) {
                throw new UnrecoverableMessageHandlingException("the handler can never take $topic");
            }
            if (getenv('HANDLER_FAILS') || str_starts_with($topic, 'fail/')) {
                throw new \RuntimeException("the handler fails on $topic");
            }
            $line = json_encode(['topic' => $topic, 'payload_hex' => bin2hex($payload), 'trace' => self::$trace]);
            file_put_contents(getenv('HANDLED_FILE') ?: 'php://stdout', $line."\n", \FILE_APPEND);
        }
    }
}
