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

namespace App\MessageHandler {
    use App\Message\MqttMessage;
    use Symfony\Component\Messenger\Exception\UnrecoverableMessageHandlingException;

    // Writes what it gets to HANDLED_FILE, a JSON line each. HANDLER_FAILS=1: it always fails; topics that
    // begin with fail/ or poison/ make it fail, the second at once and for good.
    final class MqttMessageHandler
    {
        public function __invoke(MqttMessage $message): void
        {
            $topic = method_exists($message, 'getTopic') ? $message->getTopic() : $message->topic;
            $payload = method_exists($message, 'getPayload') ? $message->getPayload() : $message->payload;
            if (getenv('HANDLER_FAILS') || str_starts_with($topic, 'fail/')) {
                throw new \RuntimeException("the handler fails on $topic");
            }
            if (str_starts_with($topic, 'poison/')) {
                throw new UnrecoverableMessageHandlingException("the handler can never take $topic");
            }
            $line = json_encode(['topic' => $topic, 'payload_hex' => bin2hex($payload)]);
            file_put_contents(getenv('HANDLED_FILE') ?: 'php://stdout', $line."\n", \FILE_APPEND);
        }
    }
}
