<?php

// For examples/php/handler.php: a message bus of Messenger's components alone. A message that does not say that it was
// received would be sent to a transport, which there is none of.

use App\Message\MqttMessage;
use App\MessageHandler\MqttMessageHandler;
use Symfony\Component\Messenger\Handler\HandlerDescriptor;
use Symfony\Component\Messenger\Handler\HandlersLocator;
use Symfony\Component\Messenger\MessageBus;
use Symfony\Component\Messenger\Middleware\HandleMessageMiddleware;
use Symfony\Component\Messenger\Middleware\SendMessageMiddleware;
use Symfony\Component\Messenger\Transport\Sender\SendersLocator;
use Symfony\Contracts\Service\ServiceLocatorTrait;
use Symfony\Contracts\Service\ServiceProviderInterface;

error_reporting(\E_ALL & ~\E_DEPRECATED & ~\E_USER_DEPRECATED);
require_once 'Symfony/Component/Messenger/autoload.php';
require_once 'Symfony/Contracts/Service/autoload.php';
require_once __DIR__.'/message.php';

$none = new class([]) implements ServiceProviderInterface {
    use ServiceLocatorTrait;
};

return new MessageBus([
    new SendMessageMiddleware(new SendersLocator([MqttMessage::class => ['async']], $none)),
    new HandleMessageMiddleware(new HandlersLocator([MqttMessage::class => [
        new HandlerDescriptor(new MqttMessageHandler(), ['from_transport' => 'async']),
    ]])),
]);
