from itkit import scenario
from tests.support.kinds.models import Author, Computed, Label, Post

PLAYED = []


@scenario
def library(data):
    """One of each kind of row that a snapshot has to hold."""
    PLAYED.append("library")
    authors = data.create_batch(Author, 3)
    post = data.create("kinds.Post", "priced", author=authors[0], extra={"a": [1, "\\", None]})
    Post.objects.using(post._state.db).bulk_create([Post(author=authors[1], title="untracked")])
    post.labels.add(*Label.objects.using(post._state.db).all())
    data.create("kinds.Bistro", owner=authors[2])
    remark = data.create("kinds.Remark", about=post)
    data.create("kinds.Node", "below")
    data.create("kinds.Computed", name="quiet")
    data.create_batch("shopdata.Product", 50)
    return {
        "post": post,
        "authors": authors,
        "by_name": {"first": authors[0]},
        "remark": remark,
        "count": 3,
        "mixed": [1, post],
    }


@scenario
def shelves(data):
    data.scenario("library")
    return {"author": data.create(Author)}


@scenario
def about_others(data):
    """Refers to a row that was there before."""
    return {"post": data.create(Post, author=Author.objects.using("postgres").earliest("pk"))}


@scenario
def careless(data):
    Computed.objects.using("postgres").update(level=1)
    data.create(Author)


@scenario
def cruel(data):
    Computed.objects.using("postgres").all().delete()
    data.create(Author)


@scenario
def wrong(data):
    return {"post": b"bytes"}


@scenario
def useless(data):
    return [data]


@scenario(sources=["tests.support.kinds.extra"])
def with_sources(data):
    return {}


@scenario
def of_any_database(data):
    return {"author": data.create(Author)}


@scenario
def ouroboros(data):
    data.create(Author)
    data.scenario("ouroboros")


@scenario
def hen(data):
    data.scenario("egg")


@scenario
def egg(data):
    data.scenario("hen")
