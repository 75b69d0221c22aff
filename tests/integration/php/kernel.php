<?php

// For examples/php/handler.php: the kernel of a small Symfony application, with a class that is a message handler by its
// attribute alone. It is given a service, and prints what belongs into the log.

namespace App\MessageHandler {
    error_reporting(\E_ALL & ~\E_DEPRECATED & ~\E_USER_DEPRECATED);
    foreach (['Bundle/FrameworkBundle', 'Component/Messenger'] as $package) {
        require_once "Symfony/$package/autoload.php";
    }
    require_once __DIR__.'/message.php';

    use App\Message\MqttMessage;
    use Symfony\Component\Messenger\Attribute\AsMessageHandler;

    #[AsMessageHandler(fromTransport: 'async')]
    final class AttributeHandler
    {
        public function __construct(private MqttMessageHandler $inner)
        {
        }

        public function __invoke(MqttMessage $message): void
        {
            echo "handling {$message->topic}\n";
            ($this->inner)($message);
        }
    }
}

namespace App {
    use App\Message\MqttMessage;
    use App\MessageHandler\AttributeHandler;
    use App\MessageHandler\MqttMessageHandler;
    use Symfony\Bundle\FrameworkBundle\FrameworkBundle;
    use Symfony\Component\Config\Loader\LoaderInterface;
    use Symfony\Component\DependencyInjection\ContainerBuilder;
    use Symfony\Component\HttpKernel\Kernel as BaseKernel;

    final class Kernel extends BaseKernel
    {
        public function registerBundles(): iterable
        {
            return [new FrameworkBundle()];
        }

        public function registerContainerConfiguration(LoaderInterface $loader): void
        {
            $loader->load(function (ContainerBuilder $container): void {
                $container->loadFromExtension('framework', ['secret' => 'none', 'http_method_override' => false,
                    'messenger' => ['transports' => ['async' => 'in-memory://'],
                        'routing' => [MqttMessage::class => 'async']]]);
                $container->autowire(MqttMessageHandler::class);
                $container->autowire(AttributeHandler::class)->setAutoconfigured(true);
            });
        }

        public function getProjectDir(): string
        {
            return getenv('HOME');
        }
    }

    return new Kernel('prod', false);
}
