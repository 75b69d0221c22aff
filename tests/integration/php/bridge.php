<?php

// bin/console of a small Symfony application, wired by hand from Debian's packages (5.4 and later): the
// Redis transport `async`, the transport `failed` (Doctrine's, or Redis'), and Messenger's own commands.
//
//     MESSENGER_TRANSPORT_DSN=redis://… DATABASE_URL=postgresql://… php bridge.php COMMAND …
//     MESSENGER_TRANSPORT_DSN=redis://… MESSENGER_FAILURE_TRANSPORT_DSN=redis://…/failed php bridge.php COMMAND …
//
// MESSENGER_SERIALIZER php or json, MESSENGER_FAILURE_SERIALIZER of `failed`, if that has another · PHP_TIMEZONE, in place of date.timezone · RETRY_MAX, RETRY_DELAY, RETRY_MULTIPLIER · and what message.php takes.

use App\Message\MqttMessage;
use App\MessageHandler\MqttMessageHandler;
use App\Stamp\TraceStamp;
use Doctrine\DBAL\DriverManager;
use Symfony\Component\Console\Application;
use Symfony\Component\Console\Command\Command;
use Symfony\Component\Console\Input\InputInterface;
use Symfony\Component\Console\Output\OutputInterface;
use Symfony\Component\EventDispatcher\EventDispatcher;
use Symfony\Component\Messenger\Bridge\Doctrine\Transport\DoctrineTransport;
use Symfony\Component\Messenger\Bridge\Doctrine\Transport\PostgreSqlConnection;
use Symfony\Component\Messenger\Bridge\Redis\Transport\RedisTransportFactory;
use Symfony\Component\Messenger\Command as MessengerCommand;
use Symfony\Component\Messenger\Event\WorkerMessageReceivedEvent;
use Symfony\Component\Messenger\EventListener;
use Symfony\Component\Messenger\Handler\HandlersLocator;
use Symfony\Component\Messenger\MessageBus;
use Symfony\Component\Messenger\Middleware;
use Symfony\Component\Messenger\Retry\MultiplierRetryStrategy;
use Symfony\Component\Messenger\RoutableMessageBus;
use Symfony\Component\Messenger\Transport\Sender\SendersLocator;
use Symfony\Component\Messenger\Transport\Serialization\PhpSerializer;
use Symfony\Component\Messenger\Transport\Serialization\Serializer;
use Symfony\Component\Serializer\Encoder\JsonEncoder;
use Symfony\Component\Serializer\Normalizer;
use Symfony\Component\Serializer\Serializer as SymfonySerializer;
use Symfony\Contracts\Service\ServiceLocatorTrait;
use Symfony\Contracts\Service\ServiceProviderInterface;

error_reporting(\E_ALL & ~\E_DEPRECATED & ~\E_USER_DEPRECATED);
$packages = ['Component/Console', 'Component/EventDispatcher', 'Component/PropertyAccess',
    'Component/Serializer', 'Component/Messenger', 'Component/Messenger/Bridge/Redis',
    'Component/Messenger/Bridge/Doctrine', 'Contracts/Service'];
foreach ($packages as $package) {
    require_once "Symfony/$package/autoload.php";
}
require_once 'Doctrine/DBAL/autoload.php';
require_once __DIR__.'/message.php';

$setting = fn (string $name, string $default): string => false === getenv($name) ? $default : getenv($name);

date_default_timezone_set($setting('PHP_TIMEZONE', 'UTC'));

$locator = fn (array $factories) => new class($factories) implements ServiceProviderInterface {
    use ServiceLocatorTrait;
};

function failure_transport(string $url, $serializer): DoctrineTransport
{
    $parts = parse_url($url) ?: throw new RuntimeException('DATABASE_URL is no URL');
    $connection = DriverManager::getConnection([
        'driver' => 'pdo_pgsql',
        'host' => $parts['host'] ?? '127.0.0.1',
        'port' => $parts['port'] ?? 5432,
        'user' => rawurldecode($parts['user'] ?? ''),
        'password' => rawurldecode($parts['pass'] ?? ''),
        'dbname' => ltrim($parts['path'] ?? '', '/'),
    ]);
    $configuration = PostgreSqlConnection::buildConfiguration('doctrine://default?queue_name=failed');

    return new DoctrineTransport(new PostgreSqlConnection($configuration, $connection), $serializer);
}

// As Serializer::create() makes it, but for XML, which would need one more extension.
function json_serializer(): Serializer
{
    $normalizers = [new Normalizer\DateTimeNormalizer(), new Normalizer\ArrayDenormalizer(),
        new Normalizer\ObjectNormalizer()];

    return new Serializer(new SymfonySerializer($normalizers, [new JsonEncoder()]));
}

// Transports, each made when it is first asked for.
$named = fn (string $name) => 'json' === $name ? json_serializer() : new PhpSerializer();
$serializer = $named($setting('MESSENGER_SERIALIZER', 'php'));
$failureSerializer = $named($setting('MESSENGER_FAILURE_SERIALIZER', $setting('MESSENGER_SERIALIZER', 'php')));
$dsn = $setting('MESSENGER_TRANSPORT_DSN', 'redis://127.0.0.1:6379/messages');
$makeAsync = fn () => (new RedisTransportFactory())->createTransport($dsn, [], $serializer);
$failedDsn = $setting('MESSENGER_FAILURE_TRANSPORT_DSN', '');
$makeFailed = fn () => '' !== $failedDsn
    ? (new RedisTransportFactory())->createTransport($failedDsn, [], $failureSerializer)
    : failure_transport($setting('DATABASE_URL', ''), $failureSerializer);
$transports = $locator(['async' => $makeAsync, 'failed' => $makeFailed]);
$failureTransports = $locator(['failed' => $makeFailed]);
$failureByReceiver = $locator(['async' => $makeFailed]);

// The bus, as the framework puts it together.
$dispatcher = new EventDispatcher();
$bus = new MessageBus([
    new Middleware\AddBusNameStampMiddleware('messenger.bus.default'),
    new Middleware\RejectRedeliveredMessageMiddleware(),
    new Middleware\DispatchAfterCurrentBusMiddleware(),
    new Middleware\FailedMessageProcessingMiddleware(),
    new Middleware\SendMessageMiddleware(
        new SendersLocator([MqttMessage::class => ['async']], $transports), $dispatcher),
    new Middleware\HandleMessageMiddleware(
        new HandlersLocator([MqttMessage::class => [new MqttMessageHandler()]])),
]);
$routable = new RoutableMessageBus($locator(['messenger.bus.default' => fn () => $bus]), $bus);

// What happens to a message that fails.
$strategy = new MultiplierRetryStrategy((int) $setting('RETRY_MAX', '3'), (int) $setting('RETRY_DELAY', '1000'),
    (float) $setting('RETRY_MULTIPLIER', '2'));
$dispatcher->addSubscriber(new EventListener\AddErrorDetailsStampListener());
$dispatcher->addSubscriber(new EventListener\SendFailedMessageForRetryListener(
    $locator(['async' => $makeAsync]), $locator(['async' => fn () => $strategy]), null, $dispatcher));
$dispatcher->addSubscriber(new EventListener\SendFailedMessageToFailureTransportListener($failureByReceiver));
$dispatcher->addListener(WorkerMessageReceivedEvent::class,
    fn (WorkerMessageReceivedEvent $event) => MqttMessageHandler::remember($event->getEnvelope()));
// 5.4 stops on SIGTERM through listeners, later versions in the command itself.
if (!is_subclass_of(MessengerCommand\ConsumeMessagesCommand::class,
    'Symfony\Component\Console\Command\SignalableCommandInterface')) {
    $dispatcher->addSubscriber(new EventListener\DispatchPcntlSignalListener());
    $dispatcher->addSubscriber(new EventListener\StopWorkerOnSigtermSignalListener());
}

// Dispatches what stands on standard input, a JSON line a message: topic, payload_hex and trace, which may be null.
$dispatch = new class($bus, 'json' !== $setting('MESSENGER_SERIALIZER', 'php')) extends Command {
    public function __construct(private MessageBus $bus, private bool $stampsMayHoldTheMessage)
    {
        parent::__construct('dispatch');
    }

    protected function execute(InputInterface $input, OutputInterface $output): int
    {
        while (false !== $line = fgets(\STDIN)) {
            $line = json_decode($line, true, 512, \JSON_THROW_ON_ERROR);
            $message = new MqttMessage($line['topic'], hex2bin($line['payload_hex']));
            $about = $this->stampsMayHoldTheMessage ? $message : null;
            $this->bus->dispatch($message, isset($line['trace']) ? [new TraceStamp($line['trace'], $about)] : []);
        }

        return 0;
    }
};

$application = new Application('bridge.php');
$application->addCommands([
    $dispatch,
    new MessengerCommand\ConsumeMessagesCommand($routable, $transports, $dispatcher, null, ['async', 'failed']),
    new MessengerCommand\FailedMessagesShowCommand('failed', $failureTransports),
    new MessengerCommand\FailedMessagesRetryCommand('failed', $failureTransports, $routable, $dispatcher),
    new MessengerCommand\FailedMessagesRemoveCommand('failed', $failureTransports),
    new MessengerCommand\SetupTransportsCommand($transports, ['async', 'failed']),
]);
if (class_exists(MessengerCommand\StatsCommand::class)) { // since 6.2
    $application->add(new MessengerCommand\StatsCommand($transports, ['async', 'failed']));
}
$application->run();
