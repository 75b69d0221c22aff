<?php

// Symfony's own serializers, for test_wire_php.py: a command a line on standard input, a JSON answer a line.
// Bytes are in hexadecimal. Values are what a stream entry's field holds (php-redis' serialized string).
//
//     decode php|json VALUE            {"topic", "payload", "stamps": {class: [properties, …]}}
//     encode php|json TOPIC PAYLOAD    {"value"}: as a fresh dispatch
//     tangle SEED                      {"value"}: stamps and message full of shared objects and references
//     same VALUE VALUE                 {"same"}: equal but for the stamps of a failure, references and all

use App\Message\MqttMessage;
use Symfony\Component\Messenger\Envelope;
use Symfony\Component\Messenger\Stamp;
use Symfony\Component\Messenger\Transport\Serialization\PhpSerializer;
use Symfony\Component\Messenger\Transport\Serialization\Serializer;
use Symfony\Component\Serializer\Encoder\JsonEncoder;
use Symfony\Component\Serializer\Normalizer;
use Symfony\Component\Serializer\Serializer as SymfonySerializer;

error_reporting(\E_ALL & ~\E_DEPRECATED & ~\E_USER_DEPRECATED);
foreach (['Component/PropertyAccess', 'Component/Serializer', 'Component/Messenger'] as $package) {
    require_once "Symfony/$package/autoload.php";
}
require_once __DIR__.'/message.php';
require_once __DIR__.'/tangle.php';

function serializer(string $name): object
{
    if ('php' === $name) {
        return new PhpSerializer();
    }
    $normalizers = [new Normalizer\DateTimeNormalizer(), new Normalizer\ArrayDenormalizer(),
        new Normalizer\ObjectNormalizer()];

    return new Serializer(new SymfonySerializer($normalizers, [new JsonEncoder()]));
}

function unwrap(string $hex): array
{
    return json_decode(unserialize(hex2bin($hex)), true, 512, \JSON_THROW_ON_ERROR);
}

function wrap(array $encoded): string
{
    $message = ['body' => $encoded['body'], 'headers' => $encoded['headers'] ?? []];

    return bin2hex(serialize(json_encode($message, \JSON_THROW_ON_ERROR)));
}

// Private properties as well; dates in full.
function properties(object $object): array
{
    $properties = [];
    foreach ((array) $object as $name => $value) {
        $name = substr($name, (int) strrpos("\0$name", "\0"));
        $properties[$name] = $value instanceof DateTimeInterface ? $value->format('Y-m-d\TH:i:s.uP') : $value;
    }

    return $properties;
}

function decode(string $serializer, string $value): array
{
    $envelope = serializer($serializer)->decode(unwrap($value));
    $message = properties($envelope->getMessage());
    $stamps = [];
    foreach ($envelope->all() as $class => $list) {
        $stamps[substr($class, (int) strrpos("\\$class", '\\'))] = array_map('properties', $list);
    }

    return ['topic' => bin2hex($message['topic']), 'payload' => bin2hex($message['payload']),
        'class' => $envelope->getMessage()::class, 'stamps' => $stamps];
}

function encode(string $serializer, string $topic, string $payload): array
{
    $message = new MqttMessage(hex2bin($topic), '-' === $payload ? '' : hex2bin($payload));
    $envelope = new Envelope($message, [new Stamp\BusNameStamp('messenger.bus.default')]);

    return ['value' => wrap(serializer($serializer)->encode($envelope))];
}

function tangle(string $seed): array
{
    mt_srand((int) $seed);

    return ['value' => wrap((new PhpSerializer())->encode(App\Tangle\envelope()))];
}

// serialize() numbers what is shared, so that equal texts mean equal references too.
function same(string $before, string $after): array
{
    $texts = [];
    foreach ([$before, $after] as $value) {
        $envelope = (new PhpSerializer())->decode(unwrap($value));
        foreach (['TransportMessageId', 'ErrorDetails', 'SentToFailureTransport', 'Delay', 'Redelivery'] as $name) {
            $envelope = $envelope->withoutAll("Symfony\\Component\\Messenger\\Stamp\\{$name}Stamp");
        }
        $texts[] = serialize($envelope);
    }

    return ['same' => $texts[0] === $texts[1]];
}

while (false !== $line = fgets(\STDIN)) {
    $words = explode(' ', trim($line));
    try {
        $answer = match ($words[0]) {
            'decode' => decode($words[1], $words[2]),
            'encode' => encode($words[1], $words[2], $words[3]),
            'tangle' => tangle($words[1]),
            'same' => same($words[1], $words[2]),
        };
    } catch (Throwable $e) {
        $answer = ['error' => $e::class.': '.$e->getMessage()];
    }
    echo json_encode($answer, \JSON_THROW_ON_ERROR), "\n";
}
