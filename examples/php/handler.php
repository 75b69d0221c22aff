#!/usr/bin/env php
<?php

// A handler for mqtt-bridge that dispatches each message into the message bus of a Symfony application, as
// messenger:consume does: docs/HANDLERS.md is the protocol. Messenger 5.4 and later.
//
//     [handler:app]
//     command = php /path/to/handler.php /srv/app
//     pass_env = APP_ENV DATABASE_URL MERCURE_URL MERCURE_JWT_SECRET MESSENGER_TRANSPORT_DSN
//
//     php handler.php [--message=CLASS] [--transport=NAME] APPLICATION
//
// APPLICATION   the project's folder: vendor/autoload.php, .env and App\Kernel are used; or a PHP file that returns a
//               kernel, or a message bus
// --message     the message's class, made with topic and payload: App\Message\MqttMessage
// --transport   the transport from which the bus is told that it came: async
//
// The application publishes by itself, so no update is answered. An exception is an error, which is retried unless it
// says otherwise.

use Symfony\Component\Dotenv\Dotenv;
use Symfony\Component\HttpKernel\KernelInterface;
use Symfony\Component\Messenger\Envelope;
use Symfony\Component\Messenger\Exception\HandlerFailedException;
use Symfony\Component\Messenger\Exception\RecoverableExceptionInterface;
use Symfony\Component\Messenger\Exception\UnrecoverableExceptionInterface;
use Symfony\Component\Messenger\MessageBusInterface;
use Symfony\Component\Messenger\Stamp\ConsumedByWorkerStamp;
use Symfony\Component\Messenger\Stamp\ReceivedStamp;

// Standard output is the protocol's: what anything else prints goes to the log.
ini_set('display_errors', 'stderr');
ob_start(static function (string $text): string {
    fwrite(\STDERR, $text);

    return '';
}, 1);

/** What APPLICATION names: a kernel or a bus. */
function load_application(string $path): object
{
    if (is_file($path)) {
        return require $path;
    }
    if (!is_file("$path/vendor/autoload.php")) {
        throw new RuntimeException("$path is neither a PHP file nor a folder with vendor/autoload.php");
    }
    require "$path/vendor/autoload.php";
    if (is_file("$path/.env") && class_exists(Dotenv::class)) {
        (new Dotenv())->bootEnv("$path/.env");
    }
    $environment = $_SERVER['APP_ENV'] ?? getenv('APP_ENV') ?: 'prod';
    $debug = $_SERVER['APP_DEBUG'] ?? getenv('APP_DEBUG');

    return new App\Kernel($environment, filter_var($debug, \FILTER_VALIDATE_BOOL));
}

/** The bus, and what is to be reset behind each message. */
function find_bus(object $application): array
{
    if ($application instanceof MessageBusInterface) {
        return [$application, null];
    }
    if (!$application instanceof KernelInterface) {
        throw new RuntimeException('the application is neither a kernel nor a message bus');
    }
    $application->boot();
    $container = $application->getContainer();
    $resetter = $container->has('services_resetter') ? $container->get('services_resetter') : null;

    return [$container->get('messenger.default_bus'), $resetter];
}

/** Those that the handlers threw, where several are wrapped in one. */
function causes(Throwable $error): array
{
    if (!$error instanceof HandlerFailedException) {
        return [$error];
    }

    return method_exists($error, 'getWrappedExceptions') ? array_values($error->getWrappedExceptions())
        : $error->getNestedExceptions();
}

/** As Messenger decides it. */
function may_be_retried(array $causes): bool
{
    foreach ($causes as $cause) {
        if ($cause instanceof RecoverableExceptionInterface) {
            return true;
        }
    }
    foreach ($causes as $cause) {
        if (!$cause instanceof UnrecoverableExceptionInterface) {
            return true;
        }
    }

    return false;
}

function answer(array $fields): void
{
    fwrite(\STDOUT, json_encode($fields, \JSON_UNESCAPED_SLASHES | \JSON_INVALID_UTF8_SUBSTITUTE)."\n");
}

$options = getopt('', ['message:', 'transport:'], $rest);
$class = $options['message'] ?? 'App\Message\MqttMessage';
$transport = $options['transport'] ?? 'async';
if (1 !== $argc - $rest) {
    fwrite(\STDERR, "usage: handler.php [--message=CLASS] [--transport=NAME] APPLICATION\n");
    exit(2);
}
[$bus, $resetter] = find_bus(load_application($argv[$rest]));
answer(['ready' => true, 'payload' => 'text']);

while (false !== $line = fgets(\STDIN)) {
    $message = json_decode($line, true, 1024, \JSON_THROW_ON_ERROR);
    $payload = 'base64' === ($message['encoding'] ?? '') ? base64_decode($message['payload']) : $message['payload'];
    $stamps = [new ReceivedStamp($transport), new ConsumedByWorkerStamp()];
    try {
        $bus->dispatch(new Envelope(new $class($message['topic'], $payload), $stamps));
        answer(['id' => $message['id'], 'updates' => []]);
    } catch (Throwable $error) {
        $causes = causes($error);
        answer(['id' => $message['id'], 'error' => get_class($causes[0]).': '.$causes[0]->getMessage(),
            'retry' => may_be_retried($causes)]);
    }
    $resetter?->reset();
}
