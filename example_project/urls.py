"""URLs of the shop."""

from django.urls import path

from example_project.shop import views

urlpatterns = [
    path("products/", views.product_list, name="product-list"),
    path("checkout/", views.checkout, name="checkout"),
    path("orders/<int:order_id>/", views.order_detail, name="order-detail"),
]
